// Distances: a goal is set in one map and taken by all, and everything follows from it.

import { COLOURS, Chart, viridis } from "farstep/chart.js";
import { decoded, exported, get } from "farstep/content.js";
import { curve, hue } from "farstep/curve.js";
import { element, options, steps } from "farstep/dom.js";
import { Graph } from "farstep/graph.js";
import { metricOf } from "farstep/metric.js";
import { Ways } from "farstep/ways.js";

export async function showMap(room) {
  const description = await get("map.json");
  room.querySelector(".status").hidden = true;
  room.querySelector(".content").hidden = false;
  const map = new MapPage(room, description);
  map.changed();
  // For whoever looks from the console, or tests.
  window.farstep = { map };
}

class MapPage {
  constructor(room, description) {
    this.room = room;
    this.description = description;
    this.form = room.querySelector(".controls");
    this.squares = decoded(description.squares);
    this.positions = decoded(description.positions);
    this.places = this.squares.length;
    this.stateOf = new Map(Array.from(this.squares, (square, state) => [square, state]));
    this.pending = false;
    const notes = [...description.problems];
    this.agents = description.agents.map((agent, number) => {
      if (agent.problem) notes.push(`${agent.name}: ${agent.problem}`);
      const metric = agent.metric && metricOf(agent);
      const graph = agent.graph && new Graph(agent.graph, metric, this.positions.length / 2);
      return { ...agent, number, metric, graph, panel: this.#panel(agent) };
    });
    room.querySelector(".notes").replaceChildren(...notes.map((note) => element("li", {}, note)));
    this.#tasks();
    this.#episodes();
    this.ways = new Ways(this);
    this.form.addEventListener("input", () => this.changed());
    this.form.addEventListener("submit", (event) => event.preventDefault());
    new ResizeObserver(() => this.changed()).observe(room.querySelector(".panels"));
  }

  position(state) {
    if (state < this.positions.length / 2) return [this.positions[2 * state], this.positions[2 * state + 1]];
    throw new RangeError(`no state ${state}`);
  }

  // Where a state of this agent lies: a place, an episode's, or one of its landmarks.
  #positionFor(agent, state) {
    const landmark = state - this.positions.length / 2;
    if (landmark < 0) return this.position(state);
    return [agent.graph.positions[2 * landmark], agent.graph.positions[2 * landmark + 1]];
  }

  // The place nearest to a point.
  nearest([x, y]) {
    let best = 0;
    let least = Infinity;
    for (let state = 0; state < this.places; state++) {
      const away = (this.positions[2 * state] - x) ** 2 + (this.positions[2 * state + 1] - y) ** 2;
      if (away < least) [best, least] = [state, away];
    }
    return best;
  }

  set(marker, state) {
    if (this[marker] === state) return;
    this[marker] = state;
    this.form.elements.task.value = "";
    this.ways.forget();
    this.changed();
  }

  changed() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.#draw();
    });
  }

  get direction() {
    return this.form.elements.direction.value;
  }

  #draw() {
    const shown = this.form.elements;
    const rows = [];
    const spoken = [];
    const paths = [];
    for (const agent of this.agents) {
      const { panel } = agent;
      let path = null;
      if (agent.metric) {
        const values =
          this.direction === "to"
            ? agent.metric.to(this.goal, this.#placeStates)
            : agent.metric.from(this.goal, this.#placeStates);
        panel.chart.show(values);
        panel.values = values;
        path = agent.graph?.path(this.start, this.goal) ?? null;
        panel.most.textContent = `${steps(panel.chart.most)} steps · a contour each ${panel.chart.step}`;
      }
      const context = panel.chart.draw({ contours: shown.contours.checked });
      this.#over(context, agent, path);
      paths.push(path);
      const there = agent.metric?.between(this.start, this.goal);
      const back = agent.metric?.between(this.goal, this.start);
      agent.readings = { there, back, path: path && path.steps };
      rows.push(
        element(
          "tr",
          {},
          element("th", { scope: "row" }, agent.name),
          ...[there, back, agent.graph ? (path?.steps ?? Infinity) : null].map((n) => element("td", {}, steps(n))),
        ),
      );
      spoken.push(`${agent.name}: ${steps(there)} steps there, ${steps(back)} back`);
    }
    this.form.querySelector(".readings tbody").replaceChildren(...rows);
    this.#rest(spoken.join("; "), paths);
    this.#episodeCurve();
  }

  #over(context, agent, path) {
    const { chart } = agent.panel;
    const shown = this.form.elements;
    if (shown.landmarks.checked && agent.graph) {
      const { positions, count } = agent.graph;
      const points = Array.from({ length: count }, (_, k) => [positions[2 * k], positions[2 * k + 1]]);
      chart.dots(context, points, { colour: "#ffffffd9", radius: 1.6 });
    }
    if (shown.episode.checked && this.episode) {
      const points = this.episode.states.map((state) => this.position(state));
      chart.line(context, points, { colour: "#34449c", width: 2 });
      chart.dots(context, [points[this.episode.at]], { colour: "#34449c", radius: 5, edge: "#ffffff" });
    }
    if (shown.plan.checked && path) {
      const points = path.states.map((state) => this.#positionFor(agent, state));
      chart.line(context, points, { colour: COLOURS.ink, width: 1.6, dash: [5, 4] });
      chart.dots(context, points.slice(1, -1), { colour: "#ffffff", radius: 3, edge: COLOURS.ink });
    }
    this.ways.draw(context, agent, chart);
    chart.start(context, this.position(this.start));
    chart.goal(context, this.position(this.goal));
  }

  // What is said, and what pictures are asked for, is what it comes to rest at.
  #rest(text, paths) {
    clearTimeout(this.resting);
    this.resting = setTimeout(() => {
      this.room.querySelector("#spoken").textContent = text;
      if (this.description.pictures && !exported) this.#strips(paths);
    }, 400);
  }

  // The states along each agent's path as pictures.
  #strips(paths) {
    const strips = this.agents.flatMap((agent, k) => {
      const states = paths[k]?.states ?? [this.start, this.goal];
      const frames = states.map((state, place) => {
        const name = place === 0 ? "start" : place === states.length - 1 ? "goal" : String(place);
        const picture = element("img", { src: `state.png?agent=${k}&state=${state}`, alt: `State ${name}`, height: "96" });
        return element("figure", {}, picture, element("figcaption", {}, name));
      });
      return [element("h3", {}, `Along the path of ${agent.name}`), element("div", { class: "frames" }, ...frames)];
    });
    const room = this.room.querySelector(".strips");
    room.hidden = false;
    room.replaceChildren(...strips);
  }

  get #placeStates() {
    this.placeStates ??= Int32Array.from({ length: this.places }, (_, k) => k);
    return this.placeStates;
  }

  #panel(agent) {
    const canvas = element("canvas", {
      tabindex: "0",
      role: "application",
      "aria-label": `Map of ${agent.name}`,
      "aria-describedby": "map-help",
    });
    const most = element("span", {});
    const under = element("span", { class: "under" });
    const bar = element("canvas", { class: "bar", width: "90", height: "6", "aria-hidden": "true" });
    const colours = bar.getContext("2d");
    for (let k = 0; k < 90; k++) {
      colours.fillStyle = `rgb(${viridis(k / 89).join(" ")})`;
      colours.fillRect(k, 0, 1, 6);
    }
    const legend = agent.metric ? [element("span", {}, "0"), bar, most, under] : [];
    this.room.querySelector(".panels").append(
      element(
        "figure",
        {},
        element("figcaption", {}, agent.name, element("small", {}, `${agent.agent} · ${agent.updates.toLocaleString("en")} updates`)),
        canvas,
        element("div", { class: "legend" }, ...legend),
      ),
    );
    const chart = new Chart(canvas, this.description.chart, this.squares);
    const panel = { chart, most, under, values: null };
    this.#follow(canvas, panel);
    return panel;
  }

  // Clicks, drags and keys.
  #follow(canvas, panel) {
    const { chart, under } = panel;
    let dragged = null;
    const stateUnder = (event) => {
      const { rows, columns, left, top, square, maze } = this.description.chart;
      const [row, column] = chart.squareAt(event.offsetX, event.offsetY);
      const inside = row >= 0 && column >= 0 && row < rows && column < columns;
      const state = inside ? this.stateOf.get(row * columns + column) : undefined;
      if (state !== undefined || maze) return state;
      return this.nearest([left + (column + 0.5) * square, top + (row + 0.5) * square]);
    };
    const near = (event, marker) => {
      const [x, y] = chart.place(this.position(this[marker]));
      return Math.hypot(x - event.offsetX, y - event.offsetY) < 12;
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      canvas.setPointerCapture(event.pointerId);
      dragged = ["goal", "start"].find((marker) => near(event, marker)) ?? this.form.elements.marker.value;
      if (event.shiftKey) dragged = "start";
      const state = stateUnder(event);
      if (state !== undefined) this.set(dragged, state);
    });
    canvas.addEventListener("pointermove", (event) => {
      const state = stateUnder(event);
      under.textContent = state === undefined || !panel.values ? "" : `here ${steps(panel.values[state])}`;
      if (dragged && state !== undefined) this.set(dragged, state);
    });
    canvas.addEventListener("pointerleave", () => (under.textContent = ""));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (dragged = null));
    canvas.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!move) return;
      event.preventDefault();
      const marker = event.shiftKey ? "start" : "goal";
      const state = this.#beside(this[marker], move);
      if (state !== undefined) this.set(marker, state);
    });
  }

  // The next square that way which holds a state.
  #beside(state, [across, down]) {
    const { rows, columns, maze } = this.description.chart;
    let [row, column] = [Math.floor(this.squares[state] / columns), this.squares[state] % columns];
    for (;;) {
      row += maze ? down : -down;
      column += across;
      if (row < 0 || column < 0 || row >= rows || column >= columns) return undefined;
      const found = this.stateOf.get(row * columns + column);
      if (found !== undefined) return found;
    }
  }

  #tasks() {
    const { tasks } = this.description;
    const select = this.form.elements.task;
    this.room.querySelector(".tasks").hidden = !tasks.length;
    options(select, [["", "—"], ...tasks.map((_, k) => [String(k), String(k + 1)])]);
    const choose = () => {
      const task = tasks[Number(select.value)];
      this.start = this.nearest(task[0]);
      this.goal = this.nearest(task[1]);
      this.ways?.forget();
    };
    select.addEventListener("input", () => select.value && choose());
    if (tasks.length) {
      select.value = "0";
      choose();
    } else {
      // Two places far from each other.
      this.start = 0;
      this.goal = this.places - 1;
    }
  }

  #episodes() {
    let first = this.places;
    const episodes = this.description.episodes.map((episode) => {
      const states = Int32Array.from(episode.steps, (_, k) => first + k);
      first += states.length;
      return { ...episode, states: Array.from(states), at: 0 };
    });
    const room = this.room.querySelector(".episode");
    this.form.elements.episode.parentElement.hidden = room.hidden = !episodes.length;
    if (!episodes.length) return;
    const [number, step] = room.querySelectorAll("select, input");
    const output = room.querySelector("output");
    options(number, episodes.map((episode, k) => [String(k), String(episode.number)]));
    const at = () => {
      this.episode.at = Number(step.value);
      output.textContent = `step ${this.episode.steps[this.episode.at]} of ${this.episode.steps.at(-1)}`;
    };
    const choose = () => {
      this.episode = episodes[Number(number.value)];
      step.max = this.episode.states.length - 1;
      step.value = 0;
      at();
    };
    choose();
    const change = (act) => () => {
      act();
      this.form.elements.episode.checked = true;
      this.changed();
    };
    number.addEventListener("input", change(choose));
    step.addEventListener("input", change(at));
  }

  #episodeCurve() {
    if (!this.episode) return;
    const { states, steps: taken } = this.episode;
    const last = taken.at(-1);
    const series = [{ label: "steps left in the episode", values: taken.map((t) => last - t), hue: hue(6), dash: [3, 4], width: 1.5 }];
    for (const agent of this.agents.filter((agent) => agent.metric)) {
      const whose = this.agents.length > 1 ? `, ${agent.name}` : "";
      series.push(
        { label: `d to the goal${whose}`, values: Array.from(agent.metric.to(this.goal, states)), hue: hue(2 * agent.number) },
        { label: `d to its end${whose}`, values: Array.from(agent.metric.to(states.at(-1), states)), hue: hue(2 * agent.number + 1) },
      );
    }
    const room = this.room.querySelector(".curve");
    if (this.plot && this.plotted === this.episode) this.plot.setData([taken, ...series.map((one) => one.values)]);
    else {
      this.plot?.destroy();
      this.plot = curve(room, { x: taken, series, xLabel: "step of the episode", yLabel: "environment steps", atX: () => this.episode.steps[this.episode.at] });
      this.plotted = this.episode;
    }
  }
}
