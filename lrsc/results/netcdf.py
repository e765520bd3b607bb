"""Result files below xarray: digests that tell a changed value, and quick reading of few variables.

xarray takes 50 to 100 ms for a file of a run, whatever is read of it; h5py takes 3 ms for the
measures. A file's attribute `digests` holds 16 hex digits of the SHA-256 of each variable (name ->
digits), of the file's other attributes (under "") and of those of the variables (under "about"):
the file format itself does not notice a changed bit in a value.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

DIGESTS = "digests"
_ABOUT = "about"  # no variable is called so
_OTHERS = "its variables are not those that were written"
_OF_HDF5 = {
    "CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST", "_Netcdf4Dimid", "_Netcdf4Coordinates",
}  # fmt: skip


class NeedsXarray(ValueError):
    """A file that is not decoded here: another program's, or with values that stand for others."""


class Stored(NamedTuple):
    """What was read of a file: attributes, all names in it, and (dimensions, values)."""

    attrs: dict[str, Any]
    names: list[str]
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]]


def read(
    path: Path, keep: Callable[[str, tuple[str, ...]], bool], skip: set[str] | None = None
) -> Stored:
    """Read the numeric variables for which keep(name, dimensions) says so, and the attributes.

    Labels of a dimension that are texts are no numbers, and left out.
    skip: names that are not even looked at; what is not kept is added to it, so that of many files
    of one kind only what is kept is opened. Raises ValueError for what is not as its digest says
    and for what needs xarray to be decoded, OSError, KeyError or RuntimeError for no such file.
    """
    skip = set() if skip is None else skip
    with _opened(path) as file:
        names, attrs, layout = list(file), _attributes(file), _layout(file, skip)
        kept = {
            name: dims for name, (variable, dims) in layout.items()
            if keep(name, dims) and not (dims == (name,) and variable.dtype.kind == "O")
        }  # fmt: skip
        found = {name: (dims, _numbers(layout[name][0])) for name, dims in kept.items()}
        skip |= {name for name in names if name not in kept and not keep(name, (name,))}
    digests = _declared(attrs)
    if digests is not None:
        digests.pop(_ABOUT, None)
        _compare(digests, {"": _of_attributes(attrs)} | {
            name: _of_values(dims, values) for name, (dims, values) in found.items()
        })  # fmt: skip
        if not digests.keys() - {""} <= set(names):
            raise ValueError(_OTHERS)
    attrs.pop(DIGESTS, None)
    attrs.pop("coordinates", None)  # xarray's own
    return Stored(attrs, names, found)


def whole(path: Path) -> tuple[dict[str, Any], dict[str, tuple], set[str]]:
    """A file as xarray decodes it, in a fraction of its time.

    Attributes, name -> (dimensions, values, attributes), and which of them are coordinates. The
    file is compared with its digests, where it has some. Raises NeedsXarray, ValueError for what is
    not as its digest says, OSError, KeyError or RuntimeError for no such file.
    """
    with _opened(path) as file:
        attrs, contents = _attributes(file), _contents(_layout(file))
    if (digests := _declared(attrs)) is not None:
        _check(digests, attrs, contents)
    named = [attrs, *(about for _, _, about in contents.values())]
    coords = {name for each in named for name in str(each.pop("coordinates", "")).split()}
    coords |= {name for name, (dims, _, _) in contents.items() if dims == (name,)}
    attrs.pop(DIGESTS, None)
    found = {n: (dims, *_decoded(v, about)) for n, (dims, v, about) in contents.items()}
    return attrs, found, coords


def about(path: Path, names: Collection[str]) -> dict[str, dict[str, Any]]:
    """Attributes of some variables of a file."""
    with _opened(path) as file:
        found = {name: _attributes(file[name]) for name in names}
    return {name: {k: v for k, v in a.items() if k != "_FillValue"} for name, a in found.items()}


def sign(path: Path | BinaryIO) -> None:
    """Add the digests to a file that is complete otherwise."""
    with _opened(path, "r+") as file:
        digests = _digests(_attributes(file), _contents(_layout(file)))
        file.attrs[DIGESTS] = json.dumps(digests, separators=(",", ":"))


def assign(path: Path, attrs: Mapping[str, str | float]) -> None:
    """Change attributes of a file, and their digest."""
    with _opened(path, "r+") as file:
        for name, value in attrs.items():
            file.attrs[name] = value
        found = _attributes(file)
        digests = (_declared(found) or {}) | {"": _of_attributes(found)}
        file.attrs[DIGESTS] = json.dumps(digests, separators=(",", ":"))


def check(path: Path) -> dict[str, tuple[str, ...]] | None:
    """Compare a file with its digests: dimensions of its variables, None if it has no digests.

    Older versions wrote none. Raises ValueError naming the first thing that has changed, OSError,
    KeyError or RuntimeError for what is no such file.
    """
    with _opened(path) as file:
        attrs = _attributes(file)
        digests = _declared(attrs)
        if digests is None:
            return None
        contents = _contents(_layout(file))
    _check(digests, attrs, contents)
    return {name: dims for name, (dims, _, _) in contents.items()}


@contextlib.contextmanager
def _opened(path: Path | BinaryIO, mode: str = "r") -> Iterator[Any]:
    import h5py

    with h5py.File(path, mode) as file:
        yield file


def _layout(file, skip: Collection[str] = ()) -> dict[str, tuple[Any, tuple[str, ...]]]:
    """Variables of a file, in its order, with their HDF5 data set and dimensions."""
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
            raise NeedsXarray("the file was not written through h5netcdf")
    return {
        name: (variable, tuple([by_number[n] for n in numbers]))
        for name, (variable, numbers) in found.items()
    }


def _attribute(variable, name: bytes):
    from h5py import h5a

    attribute = h5a.open(variable, name)
    value = np.empty(attribute.shape, np.int32)
    attribute.read(value)
    return value.tolist()


def _numbers(variable) -> np.ndarray:
    from h5py import h5a, h5s

    kind = variable.dtype
    if kind.kind not in "fiu":
        raise NeedsXarray(f"values of kind {kind.kind!r} are read through xarray")
    if kind.kind != "f" and h5a.exists(variable, b"_FillValue"):
        raise NeedsXarray("whole numbers with gaps are read through xarray")
    values = np.empty(variable.shape, kind)
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


_CODED = {"scale_factor", "add_offset", "missing_value", "dtype", "_Unsigned", "calendar"}
_TIMES = {f"{unit}seconds" for unit in ("", "milli", "micro", "nano")} | {
    "days", "hours", "minutes",
}  # fmt: skip


def _decoded(values: np.ndarray, about: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """Values and attributes as xarray gives them."""
    about = dict(about)
    fill = about.pop("_FillValue", None)
    units = str(about.get("units", ""))
    kind = values.dtype.kind
    if _CODED & about.keys() or units in _TIMES or " since " in units:
        raise NeedsXarray("values stand for others")
    if kind == "O" and fill is None:
        texts = [v.decode() if isinstance(v, bytes) else v for v in values.ravel().tolist()]
        return np.array(texts, str).reshape(values.shape), about
    gaps = fill is not None and not (kind == "f" and np.isnan(fill))
    if kind not in "fiu" or gaps:
        raise NeedsXarray(f"values of kind {kind!r} are read through xarray")
    return values, about


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


def _declared(attrs: dict[str, Any]) -> dict[str, str] | None:
    if DIGESTS not in attrs:
        return None
    found = json.loads(attrs[DIGESTS])
    if not isinstance(found, dict):
        raise ValueError("its digests are damaged")
    return found


def _compare(declared: dict[str, str], found: dict[str, str]) -> None:
    for name, digits in found.items():
        if declared.get(name) != digits:
            what = {"": "its attributes", _ABOUT: "attributes of its variables"}.get(name)
            what = what or f"values of {name!r}"
            raise ValueError(f"{what} are not as they were written (another digest)")


def _check(digests: dict[str, str], attrs: dict[str, Any], contents: Contents) -> None:
    if digests.keys() - {"", _ABOUT} != contents.keys():
        raise ValueError(_OTHERS)
    _compare(digests, _digests(attrs, contents))


def _digests(attrs: dict[str, Any], contents: Contents) -> dict[str, str]:
    about = [[name, _plain(contents[name][2])] for name in sorted(contents)]
    return {
        "": _of_attributes(attrs),
        _ABOUT: _hex(json.dumps(about).encode()),
    } | {name: _of_values(dims, values) for name, (dims, values, _) in contents.items()}


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
