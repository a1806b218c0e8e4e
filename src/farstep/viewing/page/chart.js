// A chart's squares in colours, with contours, walls, and whatever else is drawn over them.

const VIRIDIS = [
  [68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142],
  [31, 158, 137], [53, 183, 121], [110, 206, 88], [181, 222, 43], [253, 231, 37],
];

const COLOURS = { wall: "#2b2b33", route: "#ff5d4a", goal: "#ffd23f", start: "#ffffff", ink: "#1b1b22", seen: "#b9bac6" };

const MOST_CONTOURS = 12;

export function viridis(share) {
  const place = Math.min(1, Math.max(0, share)) * (VIRIDIS.length - 1);
  const low = Math.min(VIRIDIS.length - 2, Math.floor(place));
  return VIRIDIS[low].map((c, k) => Math.round(c + (place - low) * (VIRIDIS[low + 1][k] - c)));
}

// The least of 1, 2, 2.5, 5 × 10ⁿ that is not below `least`.
export function roundStep(least) {
  if (!(least > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 2.5, 5, 10].map((s) => s * power).find((s) => s >= least * (1 - 1e-9));
}

export class Chart {
  constructor(canvas, description, squares) {
    Object.assign(this, { canvas, description, squares });
    // Of a maze's outer walls, a quarter of a cell is enough to see; other charts get an edge.
    const { maze, columns, rows } = description;
    this.margin = maze ? 0.75 * (columns / maze[0].length) : -1.5;
    canvas.style.aspectRatio = `${columns - 2 * this.margin} / ${rows - 2 * this.margin}`;
    this.image = document.createElement("canvas");
    this.image.width = description.columns;
    this.image.height = description.rows;
    this.field = null;
  }

  // Pixels of a square's side.
  get scale() {
    return this.canvas.clientWidth / (this.description.columns - 2 * this.margin);
  }

  // Where a point lies on the canvas, in CSS pixels.
  place([x, y]) {
    const { left, top, square, rows, maze } = this.description;
    const row = (y - top) / square;
    const column = (x - left) / square;
    return [column - this.margin, (maze ? row : rows - row) - this.margin].map((n) => n * this.scale);
  }

  // Row and column of the square under a place of the canvas.
  squareAt(px, py) {
    const [column, row] = [px, py].map((n) => Math.floor(n / this.scale + this.margin));
    const { rows, maze } = this.description;
    return [maze ? row : rows - 1 - row, column];
  }

  // Take the values of the squares' states, one each.
  show(values) {
    const { rows, columns, maze } = this.description;
    let field = new Float32Array(rows * columns).fill(NaN);
    let most = 0;
    for (let k = 0; k < this.squares.length; k++) {
      field[this.squares[k]] = values[k];
      if (values[k] > most) most = values[k];
    }
    // Colours and contours run a little into walls, which are drawn over them, and close holes.
    for (let pass = 0; pass < (maze ? 2 : 1); pass++) field = grown(field, rows, columns);
    Object.assign(this, { field, most, step: roundStep(most / MOST_CONTOURS) });
    const pixels = new ImageData(columns, rows);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const value = field[row * columns + column];
        const at = 4 * ((maze ? row : rows - 1 - row) * columns + column);
        if (Number.isNaN(value)) continue;
        pixels.data.set([...viridis(value / most), 255], at);
      }
    }
    this.image.getContext("2d").putImageData(pixels, 0, 0);
  }

  // Draw the field; the context then takes CSS pixels.
  draw({ contours }) {
    const { canvas, description, scale, margin } = this;
    const { clientWidth: width, clientHeight: height } = canvas;
    const density = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * density) || canvas.height !== Math.round(height * density)) {
      canvas.width = Math.round(width * density);
      canvas.height = Math.round(height * density);
    }
    const context = canvas.getContext("2d");
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, width, height);
    context.imageSmoothingEnabled = description.maze !== null;
    context.translate(-margin * scale, -margin * scale);
    if (this.field) {
      context.drawImage(this.image, 0, 0, description.columns * scale, description.rows * scale);
      if (contours) this.#contours(context);
    } else {
      this.#squares(context);
    }
    this.#walls(context);
    context.translate(margin * scale, margin * scale);
    return context;
  }

  // Where there are states, if nothing is known of how far they are.
  #squares(context) {
    const { rows, columns, maze } = this.description;
    context.fillStyle = COLOURS.seen;
    for (const square of this.squares) {
      const row = Math.floor(square / columns);
      context.fillRect((square % columns) * this.scale, (maze ? row : rows - 1 - row) * this.scale, this.scale + 0.5, this.scale + 0.5);
    }
  }

  #walls(context) {
    const { maze, columns } = this.description;
    if (!maze) return;
    const cell = (columns / maze[0].length) * this.scale;
    // In one path, so that no light falls between two cells.
    context.beginPath();
    maze.forEach((row, i) =>
      [...row].forEach((mark, j) => mark === "#" && context.rect(j * cell, i * cell, cell, cell)),
    );
    context.fillStyle = COLOURS.wall;
    context.fill();
    context.font = `600 ${Math.round(cell / 2.4)}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillStyle = "#ffffffcc";
    maze.forEach((row, i) =>
      [...row].forEach((mark, j) => {
        if ("IO".includes(mark)) context.fillText(mark === "I" ? "in" : "out", (j + 0.5) * cell, (i + 0.5) * cell);
      }),
    );
  }

  // Marching squares between the middles of four neighbours.
  #contours(context) {
    const { rows, columns, maze } = this.description;
    const { field, scale, step, most } = this;
    context.strokeStyle = "#ffffffc0";
    context.lineWidth = 0.9;
    context.beginPath();
    const at = (row, column) => [(column + 0.5) * scale, (maze ? row + 0.5 : rows - row - 0.5) * scale];
    for (let row = 0; row + 1 < rows; row++) {
      for (let column = 0; column + 1 < columns; column++) {
        const corners = [[row, column], [row, column + 1], [row + 1, column + 1], [row + 1, column]];
        const values = corners.map(([i, j]) => field[i * columns + j]);
        if (values.some(Number.isNaN)) continue;
        const lowest = Math.min(...values);
        const highest = Math.min(Math.max(...values), most);
        for (let level = Math.ceil(lowest / step) * step || step; level < highest; level += step) {
          const crossed = [];
          for (let k = 0; k < 4; k++) {
            const [a, b] = [values[k], values[(k + 1) % 4]];
            if (a < level === b < level) continue;
            const share = (level - a) / (b - a);
            const [p, q] = [at(...corners[k]), at(...corners[(k + 1) % 4])];
            crossed.push([p[0] + share * (q[0] - p[0]), p[1] + share * (q[1] - p[1])]);
          }
          for (let k = 0; k + 1 < crossed.length; k += 2) {
            context.moveTo(...crossed[k]);
            context.lineTo(...crossed[k + 1]);
          }
        }
      }
    }
    context.stroke();
  }

  line(context, points, { colour, width = 2, dash = [], halo = true }) {
    if (points.length < 2) return;
    context.lineJoin = context.lineCap = "round";
    for (const [style, more] of halo ? [["#ffffff", 2.5], [colour, 0]] : [[colour, 0]]) {
      context.strokeStyle = style;
      context.lineWidth = width + more;
      context.setLineDash(more ? [] : dash);
      context.beginPath();
      points.forEach((point, k) => context[k ? "lineTo" : "moveTo"](...this.place(point)));
      context.stroke();
    }
    context.setLineDash([]);
  }

  dots(context, points, { colour, radius, edge = null }) {
    context.fillStyle = colour;
    context.strokeStyle = edge ?? colour;
    context.lineWidth = 1;
    for (const point of points) {
      context.beginPath();
      context.arc(...this.place(point), radius, 0, 2 * Math.PI);
      context.fill();
      if (edge) context.stroke();
    }
  }

  // The goal is a star, the start a ring.
  goal(context, point) {
    const [x, y] = this.place(point);
    context.beginPath();
    for (let k = 0; k < 10; k++) {
      const radius = k % 2 ? 5 : 11.5;
      const angle = -Math.PI / 2 + (k * Math.PI) / 5;
      context[k ? "lineTo" : "moveTo"](x + radius * Math.cos(angle), y + radius * Math.sin(angle));
    }
    context.closePath();
    context.lineJoin = "round";
    context.lineWidth = 1.5;
    context.strokeStyle = COLOURS.ink;
    context.fillStyle = COLOURS.goal;
    context.fill();
    context.stroke();
  }

  start(context, point) {
    this.dots(context, [point], { colour: COLOURS.ink, radius: 8.5 });
    this.dots(context, [point], { colour: COLOURS.start, radius: 6.5 });
    this.dots(context, [point], { colour: COLOURS.ink, radius: 3 });
  }
}

export { COLOURS };

// Squares without a value get the mean of their neighbours that have one.
function grown(field, rows, columns) {
  const found = field.slice();
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      if (!Number.isNaN(field[row * columns + column])) continue;
      let total = 0;
      let count = 0;
      for (let i = Math.max(0, row - 1); i <= Math.min(rows - 1, row + 1); i++) {
        for (let j = Math.max(0, column - 1); j <= Math.min(columns - 1, column + 1); j++) {
          const value = field[i * columns + j];
          if (!Number.isNaN(value)) {
            total += value;
            count++;
          }
        }
      }
      if (count) found[row * columns + column] = total / count;
    }
  }
  return found;
}
