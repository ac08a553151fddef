"""Linking windows: what keeps an id, what founds a new one, and what ends a track."""

import numpy as np
import pytest

from cropformer import Entities
from entitytransfer.tracklets import Linker

SIZE_HW = (40, 60)
RED, GREEN, BLUE = np.eye(3, dtype=np.float32)
LEFT, MIDDLE, RIGHT = (
    (slice(10, 20), slice(0, 10)),
    (slice(10, 20), slice(25, 35)),
    (slice(10, 20), slice(50, 60)),
)


def frame(*found: tuple, size_hw: tuple[int, int] = SIZE_HW) -> Entities:
    """Entities from (query id, embedding or None, region) each; best score first in the given order."""
    if not found:
        return Entities.empty(size_hw)
    masks = np.zeros((len(found), *size_hw), dtype=bool)
    for mask, (_, _, region) in zip(masks, found):
        mask[region] = True
    query_ids, embeddings, _ = zip(*found)
    return Entities.from_masks(
        masks,
        scores=np.linspace(0.9, 0.5, len(found)),
        labels=np.zeros(len(found)),
        embeddings=None if embeddings[0] is None else np.stack(embeddings),
        query_ids=query_ids,
    )


def ids(*windows: list[Entities], **options: float) -> list[list[list[int]]]:
    linker = Linker(**options)
    return [[track_ids.tolist() for track_ids in linker.link(window)] for window in windows]


def test_first_ids_count_from_one_and_hold_within_the_window():
    window = [frame((7, RED, LEFT), (3, BLUE, RIGHT)), frame((3, BLUE, RIGHT)), frame()]
    (first,) = ids(window)
    assert first == [[2, 1], [1], []]
    assert Linker().link(window)[0].dtype == np.int64


def test_ids_follow_the_entity_when_the_queries_change_places():
    first = [frame((0, RED, LEFT), (1, BLUE, RIGHT))]
    second = [frame((0, BLUE, RIGHT), (1, RED, LEFT))]
    assert ids(first, second, first) == [[[1, 2]], [[2, 1]], [[1, 2]]]


def test_masks_tell_lookalikes_apart():
    first = [frame((0, RED, LEFT), (1, RED, RIGHT))]
    second = [frame((0, RED, RIGHT), (1, RED, LEFT))]
    assert ids(first, second) == [[[1, 2]], [[2, 1]]]


def test_masks_alone_link_entities_without_embeddings():
    first = [frame((0, None, LEFT), (1, None, RIGHT))]
    second = [frame((0, None, RIGHT), (1, None, MIDDLE), (2, None, LEFT))]
    assert ids(first, second) == [[[1, 2]], [[2, 3, 1]]]


def test_embeddings_alone_link_windows_without_a_shared_frame():
    first = [frame((0, RED, LEFT), (1, BLUE, RIGHT))]
    second = [frame((0, BLUE, LEFT), (1, GREEN, MIDDLE), (2, RED, RIGHT))]
    assert ids(first, second, overlap=0) == [[[1, 2]], [[2, 3, 1]]]


def test_only_the_shared_frames_are_compared():
    moving = [frame((0, None, LEFT)), frame((0, None, MIDDLE)), frame((0, None, RIGHT))]
    onward = [frame((5, None, RIGHT)), frame((5, None, LEFT))]
    restart = [frame((5, None, LEFT)), frame((5, None, RIGHT))]
    assert ids(moving, onward)[1] == [[1], [1]]
    assert ids(moving, restart)[1] == [[2], [2]]


@pytest.mark.parametrize(("min_similarity", "expected"), [(0.33, 1), (0.34, 2)])
def test_overlap_is_the_intersection_over_the_union(min_similarity, expected):
    """10 x 10 pixels moved by half their width: 50 shared, 150 in the union."""
    first = [frame((0, None, (slice(0, 10), slice(0, 10))))]
    second = [frame((0, None, (slice(0, 10), slice(5, 15))))]
    assert ids(first, second, min_similarity=min_similarity)[1] == [[expected]]


@pytest.mark.parametrize(("min_similarity", "expected"), [(0.49, 1), (0.51, 2)])
def test_overlap_is_pooled_over_all_shared_frames(min_similarity, expected):
    """Identical on one frame, disjoint on another of a third the area: 300 shared, 600 in the union."""
    wide, narrow_left, narrow_right = (
        (slice(0, 10), slice(0, 30)),
        (slice(0, 5), slice(0, 30)),
        (slice(10, 15), slice(0, 30)),
    )
    first = [frame((0, None, wide)), frame((0, None, narrow_left))]
    second = [frame((0, None, wide)), frame((0, None, narrow_right))]
    assert ids(first, second, overlap=2, min_similarity=min_similarity)[1] == [[expected], [expected]]


def test_a_visible_overlap_beats_a_remembered_embedding():
    """Track 1 (red) is out of sight; a query that is a little red lies on track 2 and continues that one."""
    reddish = (RED + BLUE) / np.sqrt(2)
    windows = [
        [frame((0, RED, LEFT), (1, BLUE, RIGHT))],
        [frame((1, BLUE, RIGHT))],
        [frame((0, reddish, RIGHT))],
    ]
    assert ids(*windows, min_reappearance=0.6)[2] == [[2]]


def test_nothing_in_common_founds_a_new_track_and_ids_are_never_reused():
    windows = [[frame((0, RED, LEFT))], [frame((0, GREEN, RIGHT))], [frame((0, BLUE, MIDDLE))]]
    assert ids(*windows, memory=0) == [[[1]], [[2]], [[3]]]


@pytest.mark.parametrize(("hidden", "expected"), [(1, 1), (2, 1), (3, 2)])
def test_a_track_out_of_sight_is_remembered_for_so_many_windows(hidden, expected):
    shown, away = [frame((0, RED, LEFT))], [frame()]
    back = [frame((4, RED, RIGHT))]
    assert ids(shown, *[away] * hidden, back, memory=2)[-1] == [[expected]]


def test_a_poor_resemblance_does_not_bring_a_track_back():
    windows = [[frame((0, RED, LEFT))], [frame()], [frame((0, RED + BLUE, RIGHT))]]
    assert ids(*windows, min_reappearance=0.75)[-1] == [[2]]
    assert ids(*windows, min_reappearance=0.70)[-1] == [[1]]


def test_memory_does_not_grow_with_the_clip():
    """A new entity in every window: the books hold only those that may still come back."""
    linker = Linker(memory=3)
    for index in range(50):
        direction = np.zeros(64, dtype=np.float32)
        direction[index] = 1
        linker.link([frame((0, direction, (slice(0, 10), slice(index, index + 1))))])
    assert len(linker._tracks) == 4 and len(linker._shared) == 1


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 700), (900, 1600)])
def test_any_image_size_links(size_hw):
    everything = (slice(None), slice(None))
    window = [frame((0, None, everything), size_hw=size_hw)]
    assert ids(window, window) == [[[1]], [[1]]]


def test_entities_without_query_ids_are_refused():
    with pytest.raises(ValueError, match="query_ids"):
        Linker().link([Entities.from_masks(np.ones((1, 4, 4), bool), scores=[0.5], labels=[0])])
