/* The picture beside the sign-in form: a host map of no host. */

const picture = document.getElementById("art");
for (let column = 0; column < 26; column++) {
  for (let row = 0; row < 14; row++) {
    const step = Math.min(8, Math.floor((column * 5) / 26) + (((column * 7 + row * 13 + column * row) % 9) >> 1));
    const cell = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const look = { x: column * 29 + 4, y: row * 29 + 8, width: 25, height: 25, rx: 4, fill: `var(--load-${step})`, opacity: 0.16 + (column / 26) * 0.62 };
    for (const [name, value] of Object.entries(look)) cell.setAttribute(name, value);
    picture.append(cell);
  }
}
