"""Merging many profiles in a tree as they arrive, with few of them in memory at once."""

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from latprof.accounts import REPEATED
from latprof.errors import ProfileError
from latprof.profile.build import FoldedFrames

__all__ = ["MergeTree", "merge_named"]

ProfileT = TypeVar("ProfileT", bound=FoldedFrames)


class MergeTree(Generic[ProfileT]):
    """Merges profiles in pairs with the same number of parts; given profiles are not changed.

    While seven parts are added, the tree holds profiles of these numbers of parts::

        1    2    2 1    4    4 1    4 2    4 2 1

    For n parts at most log2(n) + 1 profiles are in memory. Each frame is in at most log2(n) + 1
    merges, so that floating-point sums are more exact than if parts were merged one by one.
    """

    def __init__(self) -> None:
        self._held: list[tuple[int, ProfileT]] = []

    def add(self, profile: ProfileT) -> None:
        """Add the profile of one part.

        Raises
        ------
        ProfileError
            The profile does not fit the others, for example as its pipeline is another one.
        """
        if self._held:
            self._held[0][1].check_fits(profile)
        parts = 1
        while self._held and self._held[-1][0] == parts:
            _, before = self._held.pop()
            if parts == 1:
                before = before.copy()  # the caller's profile must not change
            before.add_profile(profile)
            profile, parts = before, 2 * parts
        self._held.append((parts, profile))

    def take(self) -> ProfileT | None:
        """Empty the tree; return the profile of all parts, or None if there are none."""
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


def merge_named(profiles: Iterable[tuple[str, ProfileT]]) -> ProfileT | None:
    """Return the profile of all frames of pairs (name, profile), or None if there are none.

    A profile that is given again, also under another name, counts again; the notes of the accounts
    count such repetitions.

    Raises
    ------
    ProfileError
        A profile does not fit the first one; the message begins with its name.
    """
    tree: MergeTree[ProfileT] = MergeTree()
    seen: set[Hashable] = set()
    repeated = 0
    for name, profile in profiles:
        key = _frames_key(profile)
        repeated += key in seen
        seen |= set() if key is None else {key}
        try:
            tree.add(profile)
        except ProfileError as error:
            raise ProfileError(f"{name}: {error}") from None
    merged = tree.take()
    if merged is not None and repeated:
        notes = merged.accounts.notes
        notes[REPEATED] = notes.get(REPEATED, 0) + repeated
    return merged


def _frames_key(profile: FoldedFrames) -> Hashable:
    """Return a key that is equal for profiles of the same frames, or None if there is none."""
    total = profile.ungrouped.spans["end_to_end"]
    groups = tuple((name, group.frames) for name, group in sorted(profile.groups.items()))
    if not total.count and not (groups and profile.recordings):
        return None
    recorders = frozenset(profile.recorders.written.items())
    recorded = frozenset(profile.recordings), frozenset(profile.segments), recorders
    return *recorded, groups, profile.ungrouped.first_ns, total.count, total.total
