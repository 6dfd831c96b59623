"""Merging many profiles in a tree as they arrive, with few of them in memory at once."""

from typing import Generic, TypeVar

from latprof.profile.build import FoldedFrames

__all__ = ["MergeTree"]

ProfileT = TypeVar("ProfileT", bound=FoldedFrames)


class MergeTree(Generic[ProfileT]):
    """Profiles, each merged with one of as many parts; those that are added are not changed.

    The numbers of parts in the profiles that are held, while seven parts are added:

        1    2    2 1    4    4 1    4 2    4 2 1

    Of n parts at most log2(n) + 1 profiles are in memory. Each frame is in log2(n) merges, so that
    floating-point sums of many parts are more exact than those of one part after the other.
    """

    def __init__(self) -> None:
        self._held: list[tuple[int, ProfileT]] = []

    def add(self, profile: ProfileT) -> None:
        """Add the profile of one part.

        Raises
        ------
        ProfileError
            It does not fit the others, for example because it is of another pipeline.
        """
        parts = 1
        while self._held and self._held[-1][0] == parts:
            _, before = self._held.pop()
            if parts == 1:
                before = before.copy()  # it is the caller's
            before.add_profile(profile)
            profile, parts = before, 2 * parts
        self._held.append((parts, profile))

    def take(self) -> ProfileT | None:
        """Return the profile of all parts, or None if there are none; the tree is empty then."""
        held, self._held = self._held, []
        if not held:
            return None
        parts, found = held.pop()
        if parts == 1 and not held:
            return found.copy()
        for _, before in reversed(held):
            before.add_profile(found)
            found = before
        return found
