"""Linking windows: what keeps an id, what founds a new one, what ends a track, and what is known of it by then."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cropformer import Entities
from entitytransfer.tracking.window_result import WindowResult, gather_window
from entitytransfer.tracklets import Linker, LinkRules

SIZE_HW = (40, 60)
RED, GREEN, BLUE = np.eye(3, dtype=np.float32)
LEFT, MIDDLE, RIGHT = (
    (slice(10, 20), slice(0, 10)),
    (slice(10, 20), slice(25, 35)),
    (slice(10, 20), slice(50, 60)),
)


def frame(*found: tuple, size_hw: tuple[int, int] = SIZE_HW) -> Entities:
    """Entities from (query id, embedding, region) each; best score first in the given order."""
    masks = np.zeros((len(found), *size_hw), dtype=bool)
    for mask, (_, _, region) in zip(masks, found):
        mask[region] = True
    query_ids, embeddings, _ = zip(*found) if found else ((), np.zeros((0, 3)), ())
    scores = np.linspace(0.9, 0.5, len(found))
    return Entities.from_masks(masks, scores, np.zeros(len(found)), np.stack(embeddings) if found else GREEN, query_ids)


def window_of(frames: list[Entities], *, probs: dict[int, list[float]] | None = None, stuff: tuple[int, ...] = ()):
    """The frames as a window of ten queries; class probabilities and the queries that are stuff by query id."""
    embeddings, class_probs = np.zeros((10, 3)), np.tile([0.75, 0.25, 0.0], (10, 1))
    for one in frames:
        if len(one):
            embeddings[one.query_ids] = one.embeddings
    for query, row in (probs or {}).items():
        class_probs[query] = row
    is_stuff = np.isin(np.arange(10), stuff)
    return gather_window(frames, class_probs=class_probs, embeddings=embeddings, is_stuff=is_stuff)


def track_ids(linker: Linker, window: WindowResult) -> list[list[int]]:
    links = linker.link(window)
    return [links.track_ids[window.rows(i)].tolist() for i in range(len(window.frames))]


def ids(*windows: list[Entities], **rules: float) -> list[list[list[int]]]:
    linker = Linker(LinkRules(**rules))
    return [track_ids(linker, window_of(window)) for window in windows]


def test_first_ids_count_from_one_and_hold_within_the_window():
    window = [frame((7, RED, LEFT), (3, BLUE, RIGHT)), frame((3, BLUE, RIGHT)), frame()]
    (first,) = ids(window)
    assert first == [[2, 1], [1], []]
    assert Linker().link(window_of(window)).track_ids.dtype == np.int64


def test_ids_follow_the_entity_when_the_queries_change_places():
    first = [frame((0, RED, LEFT), (1, BLUE, RIGHT))]
    second = [frame((0, BLUE, RIGHT), (1, RED, LEFT))]
    assert ids(first, second, first) == [[[1, 2]], [[2, 1]], [[1, 2]]]


def test_masks_tell_lookalikes_apart():
    first = [frame((0, RED, LEFT), (1, RED, RIGHT))]
    second = [frame((0, RED, RIGHT), (1, RED, LEFT))]
    assert ids(first, second) == [[[1, 2]], [[2, 1]]]


def test_masks_that_overlap_are_compared_whole():
    """Both cover the same ground, the second more of it; which of them is in front does not matter."""
    wide = (slice(10, 20), slice(0, 30))
    first = [frame((0, RED, LEFT), (1, RED, wide))]
    second = [frame((0, RED, wide), (1, RED, LEFT))]
    assert ids(first, second, embedding_weight=0.0) == [[[1, 2]], [[2, 1]]]


def test_embeddings_alone_link_windows_without_a_shared_frame():
    first = [frame((0, RED, LEFT), (1, BLUE, RIGHT))]
    second = [frame((0, BLUE, LEFT), (1, GREEN, MIDDLE), (2, RED, RIGHT))]
    assert ids(first, second, overlap=0) == [[[1, 2]], [[2, 3, 1]]]


def test_only_the_shared_frames_are_compared():
    moving = [frame((0, GREEN, LEFT)), frame((0, GREEN, MIDDLE)), frame((0, GREEN, RIGHT))]
    onward = [frame((5, GREEN, RIGHT)), frame((5, GREEN, LEFT))]
    restart = [frame((5, GREEN, LEFT)), frame((5, GREEN, RIGHT))]
    assert ids(moving, onward, embedding_weight=0.0)[1] == [[1], [1]]
    assert ids(moving, restart, embedding_weight=0.0)[1] == [[2], [2]]


@pytest.mark.parametrize(("min_similarity", "expected"), [(0.33, 1), (0.34, 2)])
def test_overlap_is_the_intersection_over_the_union(min_similarity, expected):
    """10 x 10 pixels moved by half their width: 50 shared, 150 in the union."""
    first = [frame((0, GREEN, (slice(0, 10), slice(0, 10))))]
    second = [frame((0, GREEN, (slice(0, 10), slice(5, 15))))]
    assert ids(first, second, min_similarity=min_similarity, embedding_weight=0.0)[1] == [[expected]]


@pytest.mark.parametrize(("min_similarity", "expected"), [(0.49, 1), (0.51, 2)])
def test_overlap_is_pooled_over_all_shared_frames(min_similarity, expected):
    """Identical on one frame, disjoint on another of a third the area: 300 shared, 600 in the union."""
    wide, narrow_left, narrow_right = (
        (slice(0, 10), slice(0, 30)),
        (slice(0, 5), slice(0, 30)),
        (slice(10, 15), slice(0, 30)),
    )
    first = [frame((0, GREEN, wide)), frame((0, GREEN, narrow_left))]
    second = [frame((0, GREEN, wide)), frame((0, GREEN, narrow_right))]
    assert ids(first, second, overlap=2, min_similarity=min_similarity, embedding_weight=0.0)[1] == [
        [expected],
        [expected],
    ]


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


def test_hidden_tracks_are_asked_after_the_visible_ones():
    """The query that lies on track 2 is more like the hidden track 1, and yet continues the one that it lies on."""
    reddish = (2 * RED + BLUE) / np.sqrt(5)
    windows = [
        [frame((0, RED, LEFT), (1, BLUE, RIGHT))],
        [frame((1, BLUE, RIGHT))],
        [frame((0, reddish, RIGHT))],
    ]
    assert ids(*windows)[2] == [[2]]


@pytest.mark.parametrize("memory", [0, 3])
def test_stuff_of_a_class_has_one_track_in_the_whole_clip(memory):
    linker = Linker(LinkRules(memory=memory))
    sky, thing = {0: [0.9, 0.1, 0.0], 4: [0.9, 0.1, 0.0], 1: [0.1, 0.9, 0.0]}, frame((2, RED, MIDDLE))
    first = window_of([frame((0, RED, LEFT), (1, BLUE, RIGHT))], probs=sky, stuff=(0, 1))
    away = [window_of([thing]) for _ in range(5)]
    again = window_of([frame((4, GREEN, RIGHT), (2, RED, MIDDLE))], probs=sky, stuff=(4,))
    found = [track_ids(linker, window) for window in (first, *away, again)]
    assert found == [[[1, 2]], *[[[3]]] * 5, [[1, 3]]]


def test_a_track_has_the_mean_over_its_windows():
    linker, shown, away = Linker(), frame((0, RED, LEFT)), frame((1, BLUE, RIGHT))
    for row in ([0.5, 0.25, 0.25], [0.25, 0.75, 0.0]):
        links = linker.link(window_of([shown], probs={0: row}))
        linker.link(window_of([away]))
    assert links.track_ids.tolist() == [1]
    np.testing.assert_array_equal(links.class_probs, [[0.375, 0.5, 0.125]])
    np.testing.assert_array_equal(links.qualities, [1.0])


def test_memory_does_not_grow_with_the_clip():
    """A new entity in every window: the books hold only those that may still come back."""
    linker = Linker(LinkRules(memory=3))
    sizes = []
    for index in range(50):
        direction = np.cos(np.arange(3) * (index + 1))
        linker.link(window_of([frame((0, direction, (slice(0, 10), slice(index, index + 1))))]))
        state = linker.state()
        sizes.append((len(state["track_ids"]), len(state["shared"])))
    assert max(sizes) <= (4, 1)


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 700), (900, 1600)])
def test_any_image_size_links(size_hw):
    everything = (slice(None), slice(None))
    window = [frame((0, RED, everything), size_hw=size_hw)]
    assert ids(window, window) == [[[1]], [[1]]]


def crossing_squares() -> list[list[tuple]]:
    """Thirty frames of three squares; red passes in front of green, blue leaves for ten frames and comes back."""
    frames = []
    for t in range(30):
        red, green = slice(t, t + 12), slice(45 - t, 57 - t)
        blue = [] if 10 <= t < 20 else [(BLUE, (slice(28, 36), slice(t, t + 10)))]
        frames.append([(RED, (slice(5, 15), red)), (GREEN, (slice(5, 18), green)), *blue])
    return frames


@pytest.mark.parametrize("seed", range(8))
def test_any_partition_into_windows_keeps_the_ids(seed):
    """Windows of random lengths that share random numbers of frames, and queries that are drawn anew for each."""
    rng, frames = np.random.default_rng(seed), crossing_squares()
    overlap = int(rng.integers(0, 3))
    linker, ids_of, start = Linker(LinkRules(overlap=overlap)), {}, 0
    while start + overlap < len(frames):
        length = int(rng.integers(overlap + 1, 8))
        number = dict(zip((RED.argmax(), GREEN.argmax(), BLUE.argmax()), rng.permutation(10)[:3].tolist()))
        shown = frames[start : start + length]
        result = window_of([frame(*((number[c.argmax()], c, region) for c, region in one)) for one in shown])
        for one, found in zip(shown, track_ids(linker, result)):
            for (color, _), track_id in zip(one, found):
                ids_of.setdefault(int(color.argmax()), set()).add(track_id)
        start += length - overlap
    assert sorted(map(len, ids_of.values())) == [1, 1, 1] and len(set.union(*ids_of.values())) == 3


def random_window(rng: np.random.Generator) -> WindowResult:
    """Two frames of up to six entities somewhere."""

    def some_frame(queries: list[int], colors: np.ndarray) -> Entities:
        places = rng.integers(0, 45, (len(queries), 2))
        regions = [(slice(y % 30, y % 30 + 10), slice(x, x + 15)) for y, x in places]
        return frame(*zip(queries, colors, regions))

    queries = sorted(rng.choice(10, rng.integers(0, 7), replace=False).tolist())
    colors = rng.normal(size=(len(queries), 3)).astype(np.float32)
    probs = dict(zip(queries, rng.dirichlet(np.ones(3), len(queries))))
    stuff = [query for query in queries if query % 5 == 0]
    seen: dict[int, int] = {}
    for query in stuff:  # a head gives one region for a class that is not countable
        seen.setdefault(int(np.argmax(probs[query][:2])), query)
    return window_of([some_frame(queries, colors) for _ in range(2)], probs=probs, stuff=tuple(seen.values()))


def through_json(state: dict) -> dict:
    return json.loads(json.dumps(state, default=lambda value: value.tolist()))


@st.composite
def clips(draw) -> tuple[LinkRules, list[WindowResult]]:
    """Rules, and windows that share at most two frames, some of them empty."""
    rules = LinkRules(overlap=draw(st.integers(0, 2)), memory=draw(st.integers(0, 3)))
    seeds = draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=12))
    return rules, [random_window(np.random.default_rng(seed)) for seed in seeds]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(clip=clips())
def test_a_linker_restored_after_any_window_goes_on_bit_for_bit(clip):
    rules, windows = clip
    linker = Linker(rules)
    for window in windows:
        state = linker.state()
        links, later = linker.link(window), linker.state()
        for carried in (state, through_json(state)):  # what was taken out did not change
            restored = Linker.restore(carried)
            np.testing.assert_equal(found := restored.link(window), links)
            np.testing.assert_equal(restored.state(), later)
            assert [array.dtype for array in found] == [array.dtype for array in links]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(clip=clips())
def test_an_id_stands_for_one_entity_and_is_never_used_again(clip):
    """Of two queries of a window; of stuff and things; of classes of stuff; and of what was forgotten."""
    rules, windows = clip
    linker, known, last_seen = Linker(rules), {}, {}
    for number, window in enumerate(windows):
        track_ids = linker.link(window).track_ids.tolist()
        labels = np.where(window.is_stuff, window.class_probs[:, :-1].argmax(1), -1).tolist()
        assert len(set(track_ids)) == len(track_ids)
        assert set(track_ids) - set(known) == set(range(len(known) + 1, max([*known, *track_ids], default=0) + 1))
        for track_id, label in zip(track_ids, labels):
            assert known.setdefault(track_id, label) == label
            assert label >= 0 or number - last_seen.get(track_id, number) <= rules.memory + 1
            last_seen[track_id] = number
