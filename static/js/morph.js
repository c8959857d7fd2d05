/* Makes a part of the page like its newer version and touches only what differs, so that focus, selection and the layout of all
   else stay. What scripts have filled stays, too: elements with data-kept, and the words of a <time> whose moment is the same. */

function isKept(old, next) {
  return "kept" in old.dataset || (old.nodeName === "TIME" && old.dateTime === next.dateTime);
}

function setAttributes(old, next) {
  for (const { name, value } of next.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
}

function dropAttributes(old, next) {
  for (const { name } of [...old.attributes]) if (!next.hasAttribute(name)) old.removeAttribute(name);
}

export function morph(old, next) {
  if (old.nodeName !== next.nodeName) old.replaceWith(next);
  else if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== next.data) old.data = next.data;
  } else if (!isKept(old, next) && !old.isEqualNode(next)) {
    setAttributes(old, next);
    dropAttributes(old, next);
    morphContent(old, next);
  }
}

/* Make the content of `old` that of `next`, place by place. */
export function morphContent(old, next) {
  const [mine, theirs] = [[...old.childNodes], [...next.childNodes]];
  theirs.forEach((node, place) => (mine[place] ? morph(mine[place], node) : old.append(node)));
  mine.slice(theirs.length).forEach((node) => node.remove());
}
