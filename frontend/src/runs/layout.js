/**
 * Where the steps of a plan stand: layers by what they need, few crossings, straight long edges.
 *
 * Sugiyama's way in small: longest path for the layers, points for edges that pass a layer, sweeps
 * by the mean of the neighbours for the order, then places pulled towards the neighbours.
 * Pure and without chance: a plan always looks the same.
 */

const SWEEPS = 6;
const PULLS = 40;
/** Edges between two bends stay straight before others do. */
const STRAIGHT = 6;

/**
 * @typedef {object} Cell
 * @property {string} id
 * @property {boolean} bend Whether it is only a point of an edge.
 * @property {number} layer
 * @property {number} at Its middle across the flow.
 */

/**
 * Return the layer of each step: one more than the highest it needs.
 * @param {{id: string, needs: string[]}[]} nodes
 * @returns {Map<string, number>}
 */
export function layersOf(nodes) {
  const known = new Map(nodes.map((node) => [node.id, node]));
  const layers = new Map();
  const visit = (node, path) => {
    if (layers.has(node.id)) return layers.get(node.id);
    // A circle cannot be run, and must still be drawn.
    if (path.has(node.id)) return 0;
    path.add(node.id);
    const needs = node.needs.map((id) => known.get(id)).filter(Boolean);
    const layer = needs.length ? 1 + Math.max(...needs.map((need) => visit(need, path))) : 0;
    path.delete(node.id);
    layers.set(node.id, layer);
    return layer;
  };
  nodes.forEach((node) => visit(node, new Set()));
  return layers;
}

/** An edge that another path says already is left out: `a → c` where `a → b → c`. */
export function shortEdges(nodes) {
  const needs = new Map(nodes.map((node) => [node.id, node.needs]));
  const reach = new Map();
  const reaches = (id) => {
    if (reach.has(id)) return reach.get(id);
    const found = new Set();
    reach.set(id, found);
    for (const need of needs.get(id) ?? []) {
      found.add(need);
      for (const far of reaches(need)) found.add(far);
    }
    return found;
  };
  return nodes.flatMap(({ id, needs: own }) =>
    own
      .filter((need) => needs.has(need) && !own.some((other) => other !== need && reaches(other).has(need) && !reaches(need).has(other)))
      .map((need) => [need, id]),
  );
}

/**
 * Place the steps.
 * @param {{id: string, needs: string[]}[]} nodes
 * @param {{along: number, across: number, gapAlong: number, gapAcross: number}} size Of a step, and
 *   between two, along the flow and across it.
 * @returns {{places: Map<string, {along: number, across: number}>, paths: {from: string, to: string, points: number[][]}[], along: number, across: number}}
 */
export function layout(nodes, size) {
  const layer = layersOf(nodes);
  const depth = Math.max(0, ...layer.values()) + 1;
  const layers = Array.from({ length: depth }, () => []);
  for (const node of nodes) layers[layer.get(node.id)].push({ id: node.id, bend: false, layer: layer.get(node.id), up: [], down: [] });
  const cells = new Map(layers.flat().map((cell) => [cell.id, cell]));
  const chains = shortEdges(nodes)
    .filter(([from, to]) => layer.get(from) < layer.get(to))
    .map(([from, to]) => chain(cells.get(from), cells.get(to), layers));
  order(layers);
  place(layers, size);
  return draw(layers, chains, size);
}

/** The cells an edge passes, with a point in each layer between. */
function chain(from, to, layers) {
  const passed = [from];
  for (let at = from.layer + 1; at < to.layer; at += 1) {
    const bend = { id: `${from.id}>${to.id}@${at}`, bend: true, layer: at, up: [], down: [] };
    layers[at].push(bend);
    passed.push(bend);
  }
  passed.push(to);
  passed.slice(1).forEach((cell, index) => {
    cell.up.push(passed[index]);
    passed[index].down.push(cell);
  });
  return passed;
}

function order(layers) {
  const number = () => layers.forEach((cells) => cells.forEach((cell, index) => (cell.index = index)));
  const sort = (cells, side) => {
    for (const cell of cells) {
      const near = cell[side].map((other) => other.index);
      cell.want = near.length ? mean(near) : cell.index;
    }
    cells.sort((a, b) => a.want - b.want || a.index - b.index);
    cells.forEach((cell, index) => (cell.index = index));
  };
  number();
  let best = { crossings: crossings(layers), orders: layers.map((cells) => [...cells]) };
  for (let sweep = 0; sweep < SWEEPS && best.crossings; sweep += 1) {
    const down = sweep % 2 === 0;
    for (const cells of down ? layers.slice(1) : [...layers].reverse().slice(1)) sort(cells, down ? "up" : "down");
    const now = crossings(layers);
    if (now < best.crossings) best = { crossings: now, orders: layers.map((cells) => [...cells]) };
  }
  best.orders.forEach((cells, index) => (layers[index] = cells));
  number();
}

/** How often edges between neighbouring layers cross. */
export function crossings(layers) {
  let count = 0;
  for (const cells of layers) {
    const edges = cells.flatMap((cell) => cell.down.map((other) => [cell.index, other.index]));
    for (let a = 0; a < edges.length; a += 1)
      for (let b = a + 1; b < edges.length; b += 1)
        if ((edges[a][0] - edges[b][0]) * (edges[a][1] - edges[b][1]) < 0) count += 1;
  }
  return count;
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Pull every cell towards its neighbours, and keep the distances within a layer. */
function place(layers, size) {
  const room = (cell) => (cell.bend ? size.gapAcross : size.across);
  const apart = (a, b) => (room(a) + room(b)) / 2 + size.gapAcross;
  for (const cells of layers) {
    let at = 0;
    cells.forEach((cell, index) => {
      if (index) at += apart(cells[index - 1], cell);
      cell.at = at;
    });
    const middle = at / 2;
    for (const cell of cells) cell.at -= middle;
  }
  for (let pull = 0; pull < PULLS; pull += 1) {
    const down = pull % 2 === 0;
    for (const cells of down ? layers : [...layers].reverse()) {
      const want = cells.map((cell) => {
        const near = [...cell.up, ...cell.down].flatMap((other) => Array(cell.bend && other.bend ? STRAIGHT : 1).fill(other.at));
        return near.length ? mean(near) : cell.at;
      });
      settle(cells, want, apart);
    }
  }
}

/** Give cells the places they want, as near as the distances allow. */
function settle(cells, want, apart) {
  // Groups of cells that touch move together to the mean of what they want.
  const groups = [];
  cells.forEach((cell, index) => {
    let group = { from: index, offsets: [0], wants: [want[index]] };
    for (;;) {
      const before = groups.at(-1);
      group.at = mean(group.wants.map((value, at) => value - group.offsets[at]));
      if (!before) break;
      const last = before.from + before.offsets.length - 1;
      const step = before.offsets.at(-1) + apart(cells[last], cells[group.from]);
      if (before.at + step <= group.at) break;
      groups.pop();
      group = { from: before.from, offsets: [...before.offsets, ...group.offsets.map((offset) => offset + step)], wants: [...before.wants, ...group.wants] };
    }
    groups.push(group);
  });
  for (const { from, offsets, at } of groups) offsets.forEach((offset, index) => (cells[from + index].at = at + offset));
}

function draw(layers, chains, size) {
  const all = layers.flat();
  const least = Math.min(...all.map((cell) => cell.at - (cell.bend ? 0 : size.across / 2)), 0);
  const most = Math.max(...all.map((cell) => cell.at + (cell.bend ? 0 : size.across / 2)), 0);
  const start = (cell) => cell.layer * (size.along + size.gapAlong);
  const places = new Map(
    all.filter((cell) => !cell.bend).map((cell) => [cell.id, { along: start(cell), across: cell.at - least - size.across / 2, layer: cell.layer }]),
  );
  const paths = chains.map((cells) => ({
    from: cells[0].id,
    to: cells.at(-1).id,
    points: cells.flatMap((cell, index) => {
      const across = cell.at - least;
      if (cell.bend) return [[start(cell), across], [start(cell) + size.along, across]];
      return [[index ? start(cell) : start(cell) + size.along, across]];
    }),
  }));
  return { places, paths, along: layers.length * (size.along + size.gapAlong) - size.gapAlong, across: most - least };
}

/**
 * The line of a path, bent softly between layers.
 * @param {number[][]} points `[along, across]`
 * @param {boolean} right Whether the flow goes to the right; else down.
 */
export function line(points, right) {
  const xy = ([along, across]) => (right ? `${round(along)} ${round(across)}` : `${round(across)} ${round(along)}`);
  return points
    .map((point, index) => {
      if (!index) return `M${xy(point)}`;
      const [before] = [points[index - 1]];
      if (before[1] === point[1]) return `L${xy(point)}`;
      const half = (before[0] + point[0]) / 2;
      return `C${xy([half, before[1]])} ${xy([half, point[1]])} ${xy(point)}`;
    })
    .join("");
}

function round(value) {
  return Math.round(value * 10) / 10;
}
