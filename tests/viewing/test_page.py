"""The page in a real browser, without a window: what is clicked, typed, heard and saved."""

from __future__ import annotations

import http.client
import itertools
import json
import queue
import re
import shutil
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from farstep.agents.gcivl import GCIVL
from farstep.agents.mqe import MQE
from farstep.agents.qrl import QRL
from farstep.cli.main import main
from farstep.core.rng import root_key
from farstep.core.types import Actions, Space, Spaces
from farstep.data.normalize import Normalization
from farstep.planning.graph import LandmarkGraph, Landmarks
from farstep.serving.policy import Policy, load_policy
from farstep.training.config import DatasetReference, RunConfig, TrainConfig
from farstep.training.run import Run

pytest.importorskip("starlette", reason="needs the extra 'view'")
pytest.importorskip("ogbench", reason="rolls policies out")
playwright = pytest.importorskip("playwright.sync_api", reason="drives the browser")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="looks for barriers")

BROWSERS = ("chromium", "chromium-headless-shell", "google-chrome", "chrome")
SPACES = Spaces.from_observation(Space((2,)), Actions(2))
MAZE = "######\n#....#\n#.##.#\n#....#\n######\ntask (1, 1) -> (1, 1)\n"
AGENTS = {
    "mqe": MQE(latent=16, groups=2, hidden=(8,)),
    "qrl": QRL(latent=16, groups=4, hidden=(8,)),
    "gcivl": GCIVL(hidden=(8,)),
}


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    playwright.expect.set_options(timeout=30_000)
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Untrained policies of three kinds of distance; the first has landmarks to plan over."""
    home = tmp_path_factory.mktemp("view")
    (home / "ring.txt").write_text(MAZE)
    states = np.random.default_rng(0).uniform(-2, 14, (150, 2)).astype(np.float32)
    for name, agent in AGENTS.items():
        policy = Policy(
            agent=agent,
            params=jax.jit(lambda agent=agent: agent.networks(SPACES, root_key(0)))(),
            spaces=SPACES,
            normalization=Normalization(np.full(2, -3, np.float32), np.full(2, 9, np.float32)),
            dataset="none-v0",
            environment=f"pointmaze:{home / 'ring.txt'}",
            step=7,
        )
        if name == "mqe":
            graph = LandmarkGraph(
                policy.metric, Landmarks(states, states, 5, 8.0, 30.0, tolerance=0.0)
            )
            moves = np.argwhere(~np.eye(len(states), dtype=bool))
            policy = replace(policy, landmarks=graph.along(moves).landmarks)
        policy.save(home / name)
    return {name: home / name for name in AGENTS}


@pytest.fixture(scope="module")
def address(policies: dict[str, Path], toy: Path) -> Iterator[str]:
    """`farstep view` as it is typed, of a run under way too; its thread ends with the tests."""
    opened: queue.Queue[str] = queue.Queue()
    run = policies["mqe"].with_name("run")
    dataset = DatasetReference(name="walks", path=str(toy), digest="0" * 64, environment=None)
    under_way = Run.create(
        run,
        RunConfig(
            agent=AGENTS["mqe"],
            training=TrainConfig(),
            dataset=dataset,
            spaces=SPACES,
            normalization=Normalization.identity(SPACES),
        ),
    )
    for step in range(1000, 6000, 1000):
        under_way.append("metrics", {"step": step, "seconds": 1.0, "backup/loss": 1000 / step})
    words = ["view", *map(str, policies.values()), str(run), str(toy), "--landmarks", "0"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(webbrowser, "open", opened.put)
        threading.Thread(target=main, args=([*words, "--port", "0"],), daemon=True).start()
        yield opened.get(timeout=60)


def check_barriers(page) -> None:
    """The page can be used by those who do not see it, or use no mouse."""
    found = axe.Axe().run(page).response["violations"]
    grave = [one for one in found if one["impact"] in ("serious", "critical")]
    assert not grave, [(one["id"], [node["html"] for node in one["nodes"]]) for one in grave]


def drawn(page) -> None:
    """Wait until what was done is drawn: that happens in the next frame."""
    page.evaluate("new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))")


def click(page, column: float, row: float) -> None:
    """At a place of the first map, in cells of the maze."""
    canvas = page.locator("#map figure > canvas").first
    box = canvas.bounding_box()
    # A quarter of a cell of the outer walls is shown.
    cell = box["width"] / 4.5
    canvas.click(position={"x": (column - 0.75) * cell, "y": (row - 0.75) * cell})


def test_goals_are_clicked_and_ways_are_walked(browser, address, policies):
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#map figure > canvas")
    assert page.locator("#map figure").count() == 3

    page.check("input[value=start]")
    click(page, 1.5, 3.5)
    before = page.evaluate("farstep.map.position(farstep.map.goal)")
    page.locator("#map figure > canvas").first.press("ArrowRight")
    page.locator("#map figure > canvas").first.press("ArrowRight")
    drawn(page)
    state = page.evaluate(
        "(({start, goal, agents, position}) => ({"
        "  start: farstep.map.position(start), goal: farstep.map.position(goal),"
        "  readings: agents.map((agent) => agent.readings)}))(farstep.map)"
    )
    start, goal = np.array(state["start"], np.float32), np.array(state["goal"], np.float32)
    # The click set the start, and the keys moved the goal of the first task by two squares.
    assert np.abs(start - [0, 8]).max() <= 0.5
    np.testing.assert_allclose(goal - before, [4 / 3, 0], atol=1e-5)
    for name, readings in zip(AGENTS, state["readings"], strict=True):
        policy = load_policy(policies[name])
        expected = policy.distance([start, goal], [goal, start])
        np.testing.assert_allclose([readings["there"], readings["back"]], expected, rtol=4e-3)
    shown = page.locator(".readings tbody tr").first.inner_text().split()
    assert shown[0] == "mqe"
    assert float(shown[1]) == pytest.approx(state["readings"][0]["there"], abs=0.5)
    assert state["readings"][0]["path"] > state["readings"][0]["there"] * 1.001
    assert state["readings"][0]["path"] == pytest.approx(
        shortest(load_policy(policies["mqe"]), start, goal), rel=4e-3
    )

    page.check("input[name=planned]")
    page.click("button[name=roll]")
    outcome = page.locator(".outcome")
    playwright.expect(outcome).to_have_text(re.compile(r"Step \d\d|eached"))
    if page.locator("button[name=stop]").is_visible():
        page.click("button[name=stop]")
    walked = page.evaluate("farstep.map.ways.way.points")
    assert np.abs(np.subtract(walked[0], start)).max() <= 2 + 1
    page.get_by_label("Step of the way").press("Home")
    assert page.locator(".playback output").inner_text().startswith("0 of ")

    check_barriers(page)
    notes = page.locator("#map .notes").inner_text()
    assert "holds no checkpoint yet" in notes
    assert "qrl: Plans were not asked for" in notes
    playwright.expect(page.locator("#map .episode .uplot")).to_have_count(1)

    page.get_by_role("link", name="Data").click()
    page.get_by_label("Step of the episode").fill("10")
    page.get_by_role("button", name="Nearest states").click()
    playwright.expect(page.get_by_text(re.compile("steps to here"))).to_have_count(3 * 8)
    playwright.expect(page.locator("#data .uplot")).to_have_count(3)
    check_barriers(page)

    page.get_by_role("link", name="Runs").click()
    row = page.locator("#runs tr", has_text="5,000 of")
    playwright.expect(row).to_contain_text("stopped")
    playwright.expect(page.locator("#runs .uplot")).to_have_count(1)
    check_barriers(page)
    assert not errors


def test_a_page_elsewhere_is_refused(address, policies):
    host = address.removeprefix("http://").rstrip("/")

    def answer(method="GET", path="/view.json", body=None, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(http.client.HTTPConnection(host)) as connection:
            connection.request(method, path, body, named)
            response = connection.getresponse()
            return response.status, response.read().decode()

    assert answer()[0] == 200
    assert answer(Origin=f"http://{host}")[0] == 200
    for headers in (
        {"Host": "example.org"},
        {"Origin": "http://example.org"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
    ):
        assert answer(**headers)[0] == 403, headers
        assert answer("POST", "/ways", "{}", **headers)[0] == 403, headers
    for body in ("no", "{}", '{"agent": 9, "planned": false, "start": [0, 0], "goal": [0, 0]}'):
        status, text = answer("POST", "/ways", body)
        assert (status, list(json.loads(text))) == (200, ["problem"])
    assert answer("POST", "/ways", "x" * 20_000)[0] == 413
    assert answer(path="/page/../server.py")[0] == 404
    for path in ("/state.png?agent=0&state=0", "/state.png?agent=9", "/frame.png?camera=head"):
        status, text = answer(path=path)
        assert (status, list(json.loads(text))) == (404, ["problem"])


def test_a_saved_page_needs_nobody(browser, policies, tmp_path, capsys):
    saved = tmp_path / "page.html"
    main(["view", str(policies["mqe"]), "--export", str(saved)])
    assert "Page written to" in capsys.readouterr().out
    assert saved.stat().st_size < 5e6
    context = browser.new_context(offline=True)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.partition(":")[0]))
    page.goto(saved.as_uri())
    page.wait_for_selector("#map figure > canvas")
    page.get_by_label("Recorded").select_option(index=1)
    playwright.expect(page.locator(".playback output")).not_to_have_text(re.compile("^0 of"))
    assert page.locator(".success tbody tr").count() == 2
    page.locator("#map figure > canvas").press("ArrowDown")
    drawn(page)
    states = page.evaluate(
        "[farstep.map.start, farstep.map.goal].map((state) => farstep.map.position(state))"
    )
    readings = page.evaluate("farstep.map.agents[0].readings")
    expected = load_policy(policies["mqe"]).distance(*np.array(states, np.float32))
    assert readings["there"] == pytest.approx(float(expected), rel=4e-3)
    assert set(asked) <= {"file", "data", "blob"}
    context.close()


def shortest(policy: Policy, start: np.ndarray, goal: np.ndarray) -> float:
    """Steps of the cheapest path over the landmarks, by SciPy."""
    graph, metric = policy.graph, policy.metric
    marks, embeddings = graph.landmarks, graph.states.starts
    last = metric.steps(embeddings, metric.embed(goal[None]))[:, 0]
    first = metric.steps(metric.embed(start[None]), embeddings)[0]
    edges = csr_array((graph.costs, marks.edges.T), shape=graph.between.shape)
    between = dijkstra(edges)
    ends = [np.flatnonzero(x <= max(marks.step_length, x.min())) for x in (first, last)]
    total = first[ends[0], None] + between[np.ix_(*ends)] + last[ends[1]]
    a, b = np.unravel_index(total.argmin(), total.shape)
    path = dijkstra(edges, indices=ends[0][a], return_predecessors=True)[1]
    nodes = [ends[1][b]]
    while nodes[0] != ends[0][a]:
        nodes.insert(0, path[nodes[0]])
    inner = sum(graph.between[i, j] for i, j in itertools.pairwise(nodes))
    return float(first[nodes[0]] + inner + last[nodes[-1]])
