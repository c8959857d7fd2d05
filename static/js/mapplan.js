/* Where the cells of the host map stand: devices grouped by cluster and host, in the largest size that fits. Pure. */

const TOP = 21; // a cluster's heading
const GAP = 17; // between clusters

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

/* The sizes for one cell width: where each host stands, and how high it all is. */
function plan(clusters, width, cell, cellHeight, labelWidth) {
  const gap = cell >= 7 ? 2 : cell >= 5 ? 1 : 0;
  const between = cell >= 10 ? 11 : cell >= 7 ? 6 : cell >= 5 ? 4 : 3;
  const label = cell >= 13 ? 15 : 0;
  const blocks = [];
  let y = 0;
  for (const cluster of clusters) {
    const heading = y;
    let x = 0;
    let tallest = 0;
    y += TOP;
    for (const host of cluster.hosts) {
      const columns = columnsOf(host.n);
      const rows = Math.ceil(host.n / columns);
      const own = columns * (cell + gap) - gap;
      const step = Math.max(own, label ? labelWidth(host) : 0);
      if (x && x + step > width) {
        x = 0;
        y += tallest + label + (label ? 7 : between);
        tallest = 0;
      }
      const height = rows * (cellHeight + gap) - gap;
      blocks.push({ cluster, host, x, y, columns, width: own, height, heading });
      tallest = Math.max(tallest, height);
      x += step + between;
    }
    y += tallest + label + (label ? 7 : between) + GAP;
  }
  return { width, cell, cellHeight, gap, label, blocks, height: y - GAP };
}

export function layout(clusters, width, labelWidth) {
  const n = clusters.reduce((sum, cluster) => sum + cluster.n, 0);
  const largest = n <= 8 ? 44 : 30;
  const limit = width < 600 ? 640 : n > 1000 ? 560 : 330;
  for (let cell = largest; cell >= 3; cell--) {
    const found = plan(clusters, width, cell, cell, labelWidth);
    if (found.height > limit && cell > 3) continue;
    let best = found;
    for (let high = cell + 1; cell >= 13 && high < cell * 1.7; high++) {
      const taller = plan(clusters, width, cell, high, labelWidth);
      if (taller.height > Math.min(limit, 330)) break; // cells use the height that is there
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
