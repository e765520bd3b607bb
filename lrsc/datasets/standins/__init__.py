"""Stand-ins for published image sets, drawn here, in exactly the published layouts."""
