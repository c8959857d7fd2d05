/* Where the cells of the host map stand: devices grouped by cluster and host, in the largest size that fits. Pure. */

const TOP = 21; // a cluster's heading
const GAP = 17; // between clusters

/* Columns → clusters > hosts > device positions. */
export function grouped({ hosts, devices }) {
  const byHost = hosts.name.map((name, i) => ({ name, cluster: hosts.cluster[i], cells: [] }));
  devices.host.forEach((host, position) => byHost[host].cells.push(position));
  const clusters = new Map();
  for (const host of byHost.filter((one) => one.cells.length)) {
    if (!clusters.has(host.cluster)) clusters.set(host.cluster, []);
    clusters.get(host.cluster).push(host);
  }
  return [...clusters].map(([name, members]) => ({ name, hosts: members }));
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
      const columns = columnsOf(host.cells.length);
      const rows = Math.ceil(host.cells.length / columns);
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
  return { cell, cellHeight, gap, label, blocks, height: y - GAP };
}

export function layout(clusters, width, labelWidth) {
  const n = clusters.reduce((sum, cluster) => sum + cluster.hosts.reduce((all, host) => all + host.cells.length, 0), 0);
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
    return best;
  }
  return null;
}
