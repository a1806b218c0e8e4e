// Shortest paths over a policy's landmarks, by Dijkstra's algorithm.

import { decoded } from "farstep/content.js";

export class Graph {
  // `first` is the number of the first landmark among the metric's states.
  constructor(description, metric, first) {
    const [tails, heads, costs] = ["tails", "heads", "costs"].map((name) =>
      decoded(description[name]),
    );
    this.positions = decoded(description.positions);
    this.near = description.near;
    this.metric = metric;
    this.first = first;
    this.count = this.positions.length / 2;
    this.landmarks = Array.from({ length: this.count }, (_, k) => first + k);
    // Edges by the landmark that they lead to.
    this.starts = new Int32Array(this.count + 1);
    for (const head of heads) this.starts[head + 1]++;
    for (let k = 0; k < this.count; k++) this.starts[k + 1] += this.starts[k];
    this.tails = new Uint16Array(tails.length);
    this.costs = new Float32Array(tails.length);
    const next = this.starts.slice();
    for (let e = 0; e < tails.length; e++) {
      const place = next[heads[e]]++;
      this.tails[place] = tails[e];
      this.costs[place] = costs[e];
    }
    this.searched = null;
  }

  // The states from `start` to `goal` on the cheapest path, both included, and its steps; null
  // without a path.
  path(start, goal) {
    const direct = this.metric.between(start, goal);
    if (direct <= this.near) return { states: [start, goal], steps: direct };
    const { costs, following } = this.#search(goal);
    const away = this.metric.from(start, this.landmarks);
    let best = -1;
    for (const k of within(away, this.near)) {
      if (best < 0 || away[k] + costs[k] < away[best] + costs[best]) best = k;
    }
    if (best < 0 || costs[best] === Infinity) return null;
    const states = [start];
    for (let k = best; k >= 0; k = following[k]) states.push(this.first + k);
    states.push(goal);
    let steps = 0;
    for (let k = 1; k < states.length; k++) steps += this.metric.between(states[k - 1], states[k]);
    return { states, steps };
  }

  // What the way to `goal` costs from each landmark, and the landmark that follows; −1 at the last.
  #search(goal) {
    if (this.searched?.goal === goal) return this.searched;
    const costs = new Float64Array(this.count).fill(Infinity);
    const following = new Int32Array(this.count).fill(-1);
    const heap = new Heap();
    const last = this.metric.to(goal, this.landmarks);
    for (const k of within(last, this.near)) {
      costs[k] = last[k];
      heap.push(costs[k], k);
    }
    for (let item; (item = heap.pop()); ) {
      const [cost, head] = item;
      if (cost > costs[head]) continue;
      for (let e = this.starts[head]; e < this.starts[head + 1]; e++) {
        const tail = this.tails[e];
        const through = cost + this.costs[e];
        if (through < costs[tail]) {
          costs[tail] = through;
          following[tail] = head;
          heap.push(through, tail);
        }
      }
    }
    this.searched = { goal, costs, following };
    return this.searched;
  }
}

// Those nearer than `limit`, or the nearest alone.
function within(steps, limit) {
  let nearest = 0;
  const found = [];
  for (let k = 0; k < steps.length; k++) {
    if (steps[k] < steps[nearest]) nearest = k;
    if (steps[k] <= limit) found.push(k);
  }
  return found.length ? found : [nearest];
}

class Heap {
  #items = [];

  push(key, value) {
    const items = this.#items;
    let place = items.push(null) - 1;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (items[parent][0] <= key) break;
      items[place] = items[parent];
      place = parent;
    }
    items[place] = [key, value];
  }

  pop() {
    const items = this.#items;
    if (!items.length) return null;
    const top = items[0];
    const moved = items.pop();
    if (items.length) {
      let place = 0;
      for (;;) {
        let child = 2 * place + 1;
        if (child >= items.length) break;
        if (child + 1 < items.length && items[child + 1][0] < items[child][0]) child++;
        if (items[child][0] >= moved[0]) break;
        items[place] = items[child];
        place = child;
      }
      items[place] = moved;
    }
    return top;
  }
}
