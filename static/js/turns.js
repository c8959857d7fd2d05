/* Whose turn it is to ask the server. On each `sw:tick` all ask who want to know each time; of those who ask less often, only the
   one that has waited longest: what they draw does not come together in one moment.

   A turn is {seconds: () => between two times, ask: async () => …, isBusy, at}. One that fails has its next turn all the same. */

export const EACH_TIME = 2; // seconds: the ticks of shell.js
const EARLY_MS = 500; // ticks are not exact
const turns = new Set();

export function takeTurns(seconds, ask) {
  const turn = { seconds, ask, isBusy: false, at: -Infinity };
  turns.add(turn);
  return turn;
}

export const leave = (turn) => turns.delete(turn);

/* Ask at once, unless an answer is still on its way. */
export async function ask(turn) {
  if (turn.isBusy) return;
  turn.isBusy = true;
  turn.at = performance.now();
  try {
    await turn.ask();
  } catch (error) {
    console.warn(error);
  } finally {
    turn.isBusy = false;
  }
}

document.body.addEventListener("sw:tick", () => {
  const now = performance.now();
  const due = [...turns].filter((turn) => !turn.isBusy && now - turn.at >= turn.seconds() * 1000 - EARLY_MS);
  due.filter((turn) => turn.seconds() <= EACH_TIME).forEach(ask);
  const [first] = due.filter((turn) => turn.seconds() > EACH_TIME).sort((a, b) => a.at - b.at);
  if (first) ask(first);
});
