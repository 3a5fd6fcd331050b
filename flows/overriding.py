"""Whether methods of a class that belong together come from the same class."""


def is_newer(cls: type, name: str, *, than: str) -> bool:
    """Return whether a class overrides the method `name` but inherits `than`, which was written for another `name`."""

    def depth(method: str) -> int:
        return next(place for place, base in enumerate(cls.__mro__) if method in vars(base))

    return depth(name) < depth(than)
