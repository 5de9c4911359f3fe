// Chat and dashboard. Messages are written with the data API and come back as row changes, to
// every browser alike; totals are rows that a listener keeps. Data is only ever put in as text.

import { connect } from "/static/rowcast.js";

const SHOWN = 200;
const $ = (id) => document.getElementById(id);
const messages = new Map();
const totals = new Map();

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function drawMessages() {
  const newest = [...messages.values()].sort((one, other) => one.id - other.id).slice(-SHOWN);
  $("messages").replaceChildren(
    ...newest.map(({ author, body }) => {
      const item = document.createElement("li");
      item.append(element("b", author), ` ${body}`);
      return item;
    }),
  );
  $("messages").scrollTop = $("messages").scrollHeight;
}

function drawTotals() {
  const most = [...totals.values()].sort((one, other) => other.messages - one.messages);
  $("totals").replaceChildren(
    ...most.flatMap(({ author, messages }) => [element("dt", author), element("dd", messages)]),
  );
  $("count").textContent = most.reduce((sum, { messages }) => sum + messages, 0);
}

function keep(rows, key, draw) {
  return (event) => {
    if (event.op === "t") rows.clear();
    else if (event.after) rows.set(event.after[key], event.after);
    else rows.delete(event.before?.[key]);
    draw();
  };
}

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = text === "";
}

async function send(token, body) {
  const answer = await fetch("/rest/v1/messages", {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ body }),
  });
  if (!answer.ok) throw new Error((await answer.json()).message);
}

function begin(token) {
  const { sub } = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
  $("me").textContent = sub;
  const rowcast = connect({ token, onState: (state) => ($("state").textContent = state) });
  // From the beginning: what was said before comes first, then what is said.
  const shown = { pattern: "db.shop.public.messages.*", from: {} };
  rowcast.register(shown, keep(messages, "id", drawMessages));
  const counted = { pattern: "db.shop.public.chat_totals.*", from: {} };
  rowcast.register(counted, keep(totals, "author", drawTotals));
  $("write").addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await send(token, $("body").value);
      $("body").value = "";
      notice("");
    } catch (error) {
      notice(`not sent: ${error.message}`);
    }
  });
}

// The token stands behind the #, which no server and no log ever sees.
const token = new URLSearchParams(location.hash.slice(1)).get("token");
if (token) begin(token);
else $("state").textContent = "open this page with #token=…";
