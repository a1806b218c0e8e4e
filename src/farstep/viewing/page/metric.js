// The learned distance in environment steps between states, from their embeddings.

import { decoded } from "farstep/content.js";

export function metricOf(agent) {
  const { quasimetric } = agent.metric;
  const states = decoded(agent.states);
  if (quasimetric === "table") return new Table(states, agent.states.shape[1]);
  const [count, members, latent] = agent.states.shape;
  const goals = agent.goals ? decoded(agent.goals) : states;
  const Kind = quasimetric === "mrn" ? MRN : IQE;
  return new Kind(agent.metric, states, goals, count, members, latent);
}

class Metric {
  constructor(count) {
    this.count = count;
  }

  // From each of these states, or of all, to the goal `j`.
  to(j, states = null) {
    return this.#each(states, (i) => this.between(i, j));
  }

  // From the state `i` to each of these, or to all.
  from(i, states = null) {
    return this.#each(states, (j) => this.between(i, j));
  }

  #each(states, distance) {
    const found = new Float32Array(states ? states.length : this.count);
    for (let k = 0; k < found.length; k++) found[k] = distance(states ? states[k] : k);
    return found;
  }
}

// Distances that were computed of all pairs.
class Table extends Metric {
  constructor(steps, count) {
    super(count);
    this.steps = steps;
  }

  between(i, j) {
    return this.steps[i * this.count + j];
  }
}

// Liu et al. 2023: half of a group's coordinates give their largest difference, half a norm.
class MRN extends Metric {
  constructor({ groups, steps }, states, goals, count, members, latent) {
    super(count);
    Object.assign(this, { states, goals });
    this.width = members * latent;
    this.half = latent / groups / 2;
    this.scale = steps / (members * groups * Math.sqrt(latent));
  }

  between(i, j) {
    const { states, goals, width, half } = this;
    let total = 0;
    let x = i * width;
    let y = j * width;
    for (const end = x + width; x < end; ) {
      let largest = 0;
      for (const stop = x + half; x < stop; x++, y++) {
        const difference = states[x] - goals[y];
        if (difference > largest) largest = difference;
      }
      let squares = 0;
      for (const stop = x + half; x < stop; x++, y++) {
        const difference = states[x] - goals[y];
        squares += difference * difference;
      }
      total += largest + Math.sqrt(squares);
    }
    return total * this.scale;
  }
}

// Wang and Isola 2022: the length of a union of intervals in each group, α·mean + (1 − α)·max.
class IQE extends Metric {
  constructor({ groups, steps, alpha }, states, goals, count, members, latent) {
    super(count);
    Object.assign(this, { states, goals, members, groups, steps, alpha });
    this.width = members * latent;
    this.size = latent / groups;
    // In each group, the coordinates in increasing order.
    this.order = new Uint16Array(states.length);
    const group = [];
    for (let first = 0; first < states.length; first += this.size) {
      for (let m = 0; m < this.size; m++) group[m] = m;
      group.sort((a, b) => states[first + a] - states[first + b]);
      this.order.set(group, first);
    }
  }

  between(i, j) {
    const { states, goals, order, size, groups, members, alpha } = this;
    let total = 0;
    let x = i * this.width;
    let y = j * this.width;
    for (let member = 0; member < members; member++) {
      let sum = 0;
      let most = 0;
      for (let group = 0; group < groups; group++, x += size, y += size) {
        let covered = -Infinity;
        let length = 0;
        for (let k = 0; k < size; k++) {
          const m = order[x + k];
          const right = goals[y + m];
          const left = Math.max(states[x + m], covered);
          if (right > left) length += right - left;
          if (right > covered) covered = right;
        }
        sum += length;
        if (length > most) most = length;
      }
      total += (alpha * sum) / groups + (1 - alpha) * most;
    }
    return (total / members) * this.steps;
  }
}
