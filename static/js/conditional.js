/* Fetching what may not have changed: who shows the ETag that he has is told so, and reads and draws nothing. */

const TIMEOUT_MS = 10_000;
export const JSON_DATA = { headers: { Accept: "application/json" }, read: (answer) => answer.json() };
export const HTML = { headers: { Accept: "text/html", "HX-Request": "true" }, read: (answer) => answer.text() };
const seen = new Map(); // URL → ETag of its last answer

/* The answer of a URL of this site, null where it is the one that came last. A session that has ended leads to the sign-in page. */
export async function fetchChanged(url, { headers, read } = JSON_DATA) {
  const address = String(url);
  const known = seen.get(address);
  const answer = await fetch(address, {
    headers: known ? { ...headers, "If-None-Match": known } : headers,
    cache: "no-store",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  if (answer.status === 304) return null;
  if (answer.redirected) {
    location.reload();
    return null;
  }
  if (!answer.ok) throw Object.assign(new Error(`${address}: status ${answer.status}`), { status: answer.status });
  const told = await read(answer); // one that is cut off in its middle was not seen
  const etag = answer.headers.get("ETag");
  if (etag) seen.set(address, etag);
  else seen.delete(address);
  return told;
}
