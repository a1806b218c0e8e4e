// Ways that policies take from the start to the goal: as they are walked, or recorded.

import { COLOURS } from "farstep/chart.js";
import { decoded, exported, stream } from "farstep/content.js";
import { element, options, percent } from "farstep/dom.js";

const STEPS_A_SECOND = 60;

export class Ways {
  constructor(map) {
    Object.assign(this, { map, way: null, moment: 0 });
    this.room = map.form.querySelector(".ways");
    const find = (name) => map.form.elements[name];
    this.controls = Object.fromEntries(["agent", "planned", "roll", "stop", "way", "play", "moment"].map((name) => [name, find(name)]));
    this.outcome = this.room.querySelector(".outcome");
    this.recorded = map.description.ways ?? [];
    const possible = exported ? this.recorded.length > 0 : map.description.rollouts;
    this.room.hidden = !possible;
    if (!possible) return;
    options(this.controls.agent, map.agents.map((agent) => [String(agent.number), agent.name]));
    this.#plannable();
    this.controls.agent.addEventListener("input", () => this.#plannable());
    this.controls.roll.hidden = exported;
    this.controls.roll.addEventListener("click", () => this.#roll());
    this.controls.stop.addEventListener("click", () => this.abort.abort());
    this.controls.moment.addEventListener("input", () => this.#at(Number(this.controls.moment.value)));
    this.controls.play.addEventListener("click", () => (this.playing ? this.#pause() : this.#play()));
    if (exported) this.#offer();
  }

  draw(context, agent, chart) {
    const { way } = this;
    if (!way || way.agent !== agent.number) return;
    chart.line(context, way.points.slice(0, this.moment + 1), { colour: COLOURS.route, width: 2.4 });
    const subgoal = way.subgoals?.[this.moment];
    if (subgoal) chart.dots(context, [subgoal], { colour: "#ffffff", radius: 5, edge: COLOURS.route });
    if (way.points.length) chart.dots(context, [way.points[this.moment]], { colour: COLOURS.route, radius: 6, edge: "#ffffff" });
  }

  // Start or goal is another: the way is none between them.
  forget() {
    this.abort?.abort();
    this.#take(null);
    this.outcome.textContent = "";
  }

  #plannable() {
    const agent = this.map.agents[Number(this.controls.agent.value)];
    this.controls.planned.disabled = !agent.graph;
    if (!agent.graph) this.controls.planned.checked = false;
  }

  #take(way) {
    this.#pause();
    this.way = way;
    this.room.querySelector(".playback").hidden = !way;
    this.#at(0);
  }

  #at(moment) {
    this.moment = moment;
    const last = Math.max(0, (this.way?.points.length ?? 1) - 1);
    this.controls.moment.max = last;
    this.controls.moment.value = moment;
    this.room.querySelector("output").textContent = `${moment} of ${last}`;
    this.map.changed();
  }

  #play() {
    if (this.moment >= this.way.points.length - 1) this.#at(0);
    this.controls.play.textContent = "Pause";
    let before = performance.now();
    let owed = 0;
    const tick = (now) => {
      // The first frame may have begun before the click was heard.
      owed += Math.max(0, (now - before) / 1000) * STEPS_A_SECOND;
      before = now;
      const whole = Math.floor(owed);
      owed -= whole;
      const last = this.way.points.length - 1;
      this.#at(Math.min(last, this.moment + whole));
      if (this.moment < last) this.playing = requestAnimationFrame(tick);
      else this.#pause();
    };
    this.playing = requestAnimationFrame(tick);
  }

  #pause() {
    cancelAnimationFrame(this.playing);
    this.playing = null;
    this.controls.play.textContent = "Play";
  }

  // Walk from the start to the goal now, on the server, and show each step as it comes.
  async #roll() {
    const { controls, map, outcome } = this;
    const agent = Number(controls.agent.value);
    const way = { agent, points: [], subgoals: controls.planned.checked ? [] : null };
    this.forget();
    this.#take(way);
    outcome.textContent = "Starting the simulator…";
    controls.roll.disabled = true;
    controls.stop.hidden = false;
    const abort = (this.abort = new AbortController());
    const asked = { agent, planned: controls.planned.checked, start: map.position(map.start), goal: map.position(map.goal) };
    try {
      for await (const line of stream("ways", asked, abort.signal)) {
        if (this.way !== way) break;
        if (line.problem) throw new Error(line.problem);
        if (line.points) {
          way.points.push(...line.points);
          way.subgoals?.push(...line.subgoals);
          outcome.textContent = `Step ${way.points.length - 1}…`;
          this.#at(way.points.length - 1);
        } else {
          outcome.textContent = line.success ? `Reached in ${line.steps} steps` : `Not reached in ${line.steps} steps`;
        }
      }
    } catch (error) {
      outcome.textContent = error.name === "AbortError" ? "Stopped" : error.message;
    } finally {
      controls.roll.disabled = false;
      controls.stop.hidden = true;
    }
  }

  #offer() {
    const { controls, map } = this;
    controls.planned.parentElement.hidden = true;
    controls.agent.parentElement.hidden = true;
    this.room.querySelector(".recorded").hidden = false;
    const name = (way) =>
      `${map.agents[way.agent].name}${way.planned ? ", planned" : ""}, task ${way.task}: ` +
      (way.success ? `reached in ${way.steps}` : `not reached in ${way.steps}`);
    options(controls.way, [["", "—"], ...this.recorded.map((way, k) => [String(k), name(way)])]);
    controls.way.addEventListener("input", () => {
      if (controls.way.value === "") return this.forget();
      const way = this.recorded[Number(controls.way.value)];
      const numbers = decoded(way.points);
      const points = Array.from({ length: numbers.length / 2 }, (_, k) => [numbers[2 * k], numbers[2 * k + 1]]);
      map.form.elements.task.value = String(way.task - 1);
      map.form.elements.task.dispatchEvent(new Event("input"));
      this.#take({ ...way, points, subgoals: null });
      this.#play();
    });
    this.#success();
  }

  #success() {
    const table = this.room.querySelector(".success");
    table.hidden = false;
    const tasks = [...new Set(this.recorded.map((way) => way.task))].sort((a, b) => a - b);
    table.tHead.append(
      element("tr", {}, element("th", { scope: "col" }, "Policy"), ...tasks.map((task) => element("th", { scope: "col" }, String(task)))),
    );
    for (const agent of this.map.agents) {
      for (const planned of [false, true]) {
        const own = this.recorded.filter((way) => way.agent === agent.number && way.planned === planned);
        if (!own.length) continue;
        const cells = tasks.map((task) => {
          const tried = own.filter((way) => way.task === task);
          return element("td", {}, percent(tried.filter((way) => way.success).length / tried.length));
        });
        table.tBodies[0].append(element("tr", {}, element("th", { scope: "row" }, agent.name + (planned ? ", planned" : "")), ...cells));
      }
    }
  }
}
