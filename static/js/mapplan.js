/* Where the cells of the host map stand: devices grouped by cluster and host, in the largest size that fits. Pure. */

const TOP = 21; // a cluster's heading
const HIGH = 360; // about what stands beside it
const GAP = 17; // between lines of clusters
const ASIDE = 32; // between clusters of one line

/* Columns → clusters > hosts, each with the position of its first device and how many it has. */
export function grouped({ name, cluster, devices }) {
  const clusters = new Map();
  let first = 0;
  name.forEach((host, i) => {
    if (devices[i]) {
      if (!clusters.has(cluster[i])) clusters.set(cluster[i], []);
      clusters.get(cluster[i]).push({ name: host, first, n: devices[i] });
    }
    first += devices[i];
  });
  return [...clusters].map(([title, hosts]) => ({ name: title, hosts, first: hosts[0].first, n: hosts.reduce((sum, host) => sum + host.n, 0) }));
}

const columnsOf = (n) => (n < 3 ? n : Math.ceil(n / 2));

/* The sizes for one cell width: where each host stands, and how high it all is. Clusters whose hosts stand in one row share lines. */
function plan(clusters, width, cell, cellHeight, widths) {
  const gap = cell >= 7 ? 2 : cell >= 5 ? 1 : 0;
  const between = cell >= 10 ? 11 : cell >= 7 ? 6 : cell >= 5 ? 4 : 3;
  const label = cell >= 13 ? 15 : 0;
  const own = (host) => columnsOf(host.n) * (cell + gap) - gap;
  const step = (host) => Math.max(own(host), label ? widths.label(host) : 0) + between;
  const blocks = [];
  let [left, top, lowest] = [0, 0, 0]; // of the line of clusters
  for (const cluster of clusters) {
    const needed = Math.max(widths.heading(cluster), cluster.hosts.reduce((sum, host) => sum + step(host), -between));
    if (left && left + needed > width) [left, top, lowest] = [0, lowest + GAP, 0];
    let [x, y, tallest] = [left, top + TOP, 0];
    for (const host of cluster.hosts) {
      if (x > left && x + step(host) - between > width) {
        [x, y, tallest] = [left, y + tallest + label + (label ? 7 : between), 0];
      }
      const height = Math.ceil(host.n / columnsOf(host.n)) * (cellHeight + gap) - gap;
      blocks.push({ cluster, host, x, y, columns: columnsOf(host.n), width: own(host), height, heading: { x: left, y: top, width: width - left } });
      tallest = Math.max(tallest, height);
      x += step(host);
    }
    lowest = Math.max(lowest, y + tallest + label + (label ? 7 : between));
    left += needed + ASIDE;
  }
  return { width, cell, cellHeight, gap, label, blocks, height: lowest };
}

/* `widths` tell how wide a host's label and a cluster's heading are, pixels. */
export function layout(clusters, width, widths) {
  const n = clusters.reduce((sum, cluster) => sum + cluster.n, 0);
  const largest = n <= 8 ? 44 : 30;
  const limit = width < 600 ? 640 : n > 1000 ? 560 : HIGH;
  for (let cell = largest; cell >= 3; cell--) {
    const found = plan(clusters, width, cell, cell, widths);
    if (found.height > limit && cell > 3) continue;
    let best = found;
    for (let high = cell + 1; cell >= 13 && high < cell * 1.7; high++) {
      const taller = plan(clusters, width, cell, high, widths);
      if (taller.height > Math.min(limit, HIGH)) break; // cells use the height that is there
      best = taller;
    }
    return placed(best, n);
  }
  return null;
}

/* Add where each device's cell stands, by its position. */
function placed(found, n) {
  const { cell, cellHeight, gap, blocks } = found;
  const x = new Float32Array(n);
  const y = new Float32Array(n);
  for (const block of blocks) {
    for (let i = 0; i < block.host.n; i++) {
      x[block.host.first + i] = block.x + (i % block.columns) * (cell + gap);
      y[block.host.first + i] = block.y + Math.floor(i / block.columns) * (cellHeight + gap);
    }
  }
  return { ...found, x, y };
}

/* The cell at a point, -1 where there is none. */
export function cellAt({ x, y, cell, cellHeight }, px, py) {
  for (let i = 0; i < x.length; i++) if (px >= x[i] - 1 && px <= x[i] + cell + 1 && py >= y[i] - 1 && py <= y[i] + cellHeight + 1) return i;
  return -1;
}

/* The cell next to one in a direction of the keys: along the row of cells, or the nearest one above or below. */
export function cellBeside({ x, y }, from, key) {
  if (from < 0) return 0;
  if (key === "ArrowRight") return Math.min(x.length - 1, from + 1);
  if (key === "ArrowLeft") return Math.max(0, from - 1);
  const sign = key === "ArrowDown" ? 1 : -1;
  let best = from;
  let least = Infinity;
  for (let i = 0; i < x.length; i++) {
    const down = (y[i] - y[from]) * sign;
    const distance = down * 4096 + Math.abs(x[i] - x[from]); // the next row first, and in it the nearest
    if (down > 0 && distance < least) [best, least] = [i, distance];
  }
  return best;
}
