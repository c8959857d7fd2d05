/* Fetching what may not have changed: who shows the ETag that he has is told so, and reads and draws nothing. */

const seen = new Map(); // URL → ETag of its last answer

/* The JSON answer of a URL of this site, null where it is the one that came last. A session that has ended leads to the sign-in page. */
export async function fetchChanged(url) {
  const address = String(url);
  const headers = { Accept: "application/json" };
  if (seen.has(address)) headers["If-None-Match"] = seen.get(address);
  const answer = await fetch(address, { headers, cache: "no-store" });
  if (answer.status === 304) return null;
  if (answer.redirected) location.reload();
  if (!answer.ok) throw new Error(`${address}: status ${answer.status}`);
  const etag = answer.headers.get("ETag");
  if (etag) seen.set(address, etag);
  else seen.delete(address);
  return answer.json();
}
