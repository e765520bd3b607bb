"""Raw data: where published files are, how they are fetched, verified, decoded and cached."""
