"""Result files below xarray: digests that tell a changed value, and quick reading of few variables.

xarray takes 50 to 100 ms for a file of a run, whatever is read of it; h5py takes 3 ms for the
measures. A file's attribute `digests` holds 16 hex digits of the SHA-256 of each variable (name ->
digits), of the file's other attributes (under "") and of those of the variables (under "about"):
the file format itself does not notice a changed bit in a value.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import xarray as xr

DIGESTS = "digests"
_ABOUT = "about"  # no variable is called so
_OF_HDF5 = {
    "CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST", "_Netcdf4Dimid", "_Netcdf4Coordinates",
}  # fmt: skip


class Stored(NamedTuple):
    """What was read of a file: attributes, all names in it, and (dimensions, values)."""

    attrs: dict[str, Any]
    names: list[str]
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]]


def read(
    path: Path, keep: Callable[[str, tuple[str, ...]], bool], skip: set[str] | None = None
) -> Stored:
    """Read the numbers for which keep(name, dimensions) says so, and the attributes of the file.

    skip: names that are not even looked at; what is not kept is added to it, so that of many files
    of one kind only what is kept is opened. Raises ValueError for what is not as its digest says,
    OSError, KeyError or RuntimeError for no such file.
    """
    skip = set() if skip is None else skip
    with _opened(path) as file:
        names, attrs, layout = list(file), _attributes(file), _layout(file, skip)
        found = {
            name: (dims, _numbers(variable)) for name, (variable, dims) in layout.items()
            if keep(name, dims) and _holds_numbers(variable)
        }  # fmt: skip
        skip |= {name for name in names if name not in found and not keep(name, (name,))}
    _verify(attrs, names, {name: _of_values(*value) for name, value in found.items()})
    attrs.pop("coordinates", None)  # xarray's own
    return Stored(attrs, names, found)


def whole(path: Path) -> xr.Dataset:
    """A file as xarray opens it, in a fraction of its time.

    Raises ValueError for what is not as its digest says, OSError, KeyError or RuntimeError for no
    such file.
    """
    with _opened(path) as file:
        attrs, contents = _attributes(file), _contents(_layout(file))
    _verify(attrs, contents, _digests(contents))
    raw = {n: xr.Variable(dims, _texts(v), about) for n, (dims, v, about) in contents.items()}
    found, of_file, coords = xr.conventions.decode_cf_variables(raw, attrs)
    coords |= {name for name, variable in found.items() if variable.dims == (name,)}
    data = {name: variable for name, variable in found.items() if name not in coords}
    labels = {name: variable for name, variable in found.items() if name in coords}
    # with its encoding, a text written again would be cut at its length in the file
    return xr.Dataset(data, labels, of_file).load().drop_encoding()


def about(path: Path, names: Collection[str]) -> dict[str, dict[str, Any]]:
    """Attributes of some variables of a file."""
    with _opened(path) as file:
        found = {name: _attributes(file[name]) for name in names}
    return {name: {k: v for k, v in a.items() if k != "_FillValue"} for name, a in found.items()}


def dtypes(path: Path) -> dict[str, np.dtype]:
    """Types of a file's variables; OSError for what is no such file."""
    with _opened(path) as file:
        return {name: file[name].dtype for name in file}


def sign(path: Path | BinaryIO) -> None:
    """Add the digests to a file that is complete otherwise."""
    with _opened(path, "r+") as file:
        digests = _digests(_contents(_layout(file))) | {"": _of_attributes(_attributes(file))}
        file.attrs[DIGESTS] = json.dumps(digests, separators=(",", ":"))


@contextlib.contextmanager
def _opened(path: Path | BinaryIO, mode: str = "r") -> Iterator[Any]:
    import h5py

    with h5py.File(path, mode) as file:
        yield file


def _layout(file, skip: Collection[str] = ()) -> dict[str, tuple[Any, tuple[str, ...]]]:
    """Variables of a file, in its order, with their HDF5 data set and dimensions.

    A dimension that is to be skipped has the name "".
    """
    from h5py import h5a, h5d, h5g

    found: dict[str, tuple[Any, Any]] = {}
    by_number: dict[int, str] = {}
    for key in h5g.open(file.id, b"/"):
        name = key.decode()
        if name in skip:
            continue
        variable = h5d.open(file.id, key)
        if variable.rank == 0:
            found[name] = variable, ()
            continue
        is_dimension = h5a.exists(variable, b"CLASS")
        if is_dimension:
            by_number[int(_attribute(variable, b"_Netcdf4Dimid"))] = name
        if h5a.exists(variable, b"_Netcdf4Coordinates"):
            found[name] = variable, _attribute(variable, b"_Netcdf4Coordinates")
        elif not is_dimension:
            raise ValueError("it was not written through h5netcdf")
    return {
        name: (variable, tuple([by_number.get(n, "") for n in numbers]))
        for name, (variable, numbers) in found.items()
    }


def _attribute(variable, name: bytes):
    from h5py import h5a

    attribute = h5a.open(variable, name)
    value = np.empty(attribute.shape, np.int32)
    attribute.read(value)
    return value.tolist()


def _holds_numbers(variable) -> bool:
    """Whether a variable holds numbers, and none that stand for a gap."""
    from h5py import h5a

    kind = variable.dtype.kind
    return kind == "f" or (kind in "iu" and not h5a.exists(variable, b"_FillValue"))


def _numbers(variable) -> np.ndarray:
    from h5py import h5s

    values = np.empty(variable.shape, variable.dtype)
    variable.read(h5s.ALL, h5s.ALL, values)
    return values


Contents = dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, Any]]]


def _contents(layout: dict[str, tuple[Any, tuple[str, ...]]]) -> Contents:
    """Dimensions, values as they are stored, and attributes of all variables of a file."""
    import h5py

    found = {}
    for name, (identifier, dims) in layout.items():
        variable = h5py.Dataset(identifier)
        kind = object if variable.dtype.kind == "O" else None  # texts
        found[name] = dims, np.asarray(variable[()], kind), _attributes(variable)
    return found


def _texts(values: np.ndarray) -> np.ndarray:
    """Texts, which HDF5 gives as bytes, as texts; all else as it is."""
    if values.dtype.kind != "O":
        return values
    texts = [v.decode() if isinstance(v, bytes) else v for v in values.ravel().tolist()]
    return np.array(texts, str).reshape(values.shape)


def _attributes(of) -> dict[str, Any]:
    """Attributes of a file or a variable as plain values; those that HDF5 needs are left out."""
    found, attrs = {}, of.attrs
    for name in attrs:
        if name in _OF_HDF5 or name == "_NCProperties":
            continue
        value = attrs[name]
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.reshape(-1)[0]
        elif not isinstance(value, str | np.generic | np.ndarray):
            value = ""  # HDF5's empty value
        found[name] = value
    return found


def _verify(attrs: dict[str, Any], names: Collection[str], digests: dict[str, str]) -> None:
    """Compare digests with those declared in a file's attributes, from which these are taken.

    names: of all variables in the file. Raises ValueError naming the first thing that has changed.
    """
    if DIGESTS not in attrs:
        return
    declared = json.loads(attrs.pop(DIGESTS))
    if not isinstance(declared, dict):
        raise ValueError("its digests are damaged")
    if not declared.keys() - {"", _ABOUT} <= set(names):
        raise ValueError("its variables are not those that were written")
    for name, digits in ({"": _of_attributes(attrs)} | digests).items():
        if declared.get(name) != digits:
            what = {"": "its attributes", _ABOUT: "attributes of its variables"}.get(name)
            what = what or f"values of {name!r}"
            raise ValueError(f"{what} are not as they were written (another digest)")


def _digests(contents: Contents) -> dict[str, str]:
    about = [[name, _plain(contents[name][2])] for name in sorted(contents)]
    found = {_ABOUT: _hex(json.dumps(about).encode())}
    return found | {name: _of_values(dims, values) for name, (dims, values, _) in contents.items()}


def _of_attributes(attrs: dict[str, Any]) -> str:
    return _hex(json.dumps(_plain({k: v for k, v in attrs.items() if k != DIGESTS})).encode())


def _plain(attrs: dict[str, Any]) -> list:
    """Attributes as JSON holds them, whatever their order in the file."""
    return sorted([k, v if isinstance(v, str) else _text(v)] for k, v in attrs.items())


def _text(value) -> str:
    array = np.asarray(value)
    return f"{array.dtype.str} {array.tolist()!r}"


def _of_values(dims: tuple[str, ...], values: Any) -> str:
    array = np.asarray(values)
    head = f"{' '.join(dims)} {array.dtype.str} {array.shape} ".encode()
    if array.dtype.kind == "O":  # texts
        body = json.dumps(array.tolist(), default=bytes.decode).encode()
    else:
        body = np.ascontiguousarray(array).tobytes()
    return _hex(head + body)


def _hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
