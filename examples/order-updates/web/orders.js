// A customer's own orders, live: the rows by a filter, the news by a channel of the customer's.

import { connect } from "/static/rowcast.js";

const $ = (id) => document.getElementById(id);
const orders = new Map();

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function draw() {
  const rows = [...orders.values()].sort((one, other) => other.id - one.id);
  $("orders").replaceChildren(
    ...rows.map(({ id, quantity, status }) => {
      const row = document.createElement("tr");
      row.dataset.order = id;
      row.append(element("td", `#${id}`), element("td", quantity), element("td", status));
      return row;
    }),
  );
}

function begin(token) {
  const { sub } = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
  $("customer").textContent = sub;
  const rowcast = connect({ token, onState: (state) => ($("state").textContent = state) });
  // From the beginning: all that happened to these orders, then what happens.
  rowcast.register(
    { pattern: "db.shop.public.orders.*", filter: { customer: sub }, from: {} },
    (event, place) => {
      if (event.after && !place.left) orders.set(event.after.id, event.after);
      else orders.delete(event.before?.id);
      draw();
    },
  );
  rowcast.register({ channel: `customer.${sub}` }, (event) => {
    $("news").prepend(element("li", event.data.line));
  });
}

// The token stands behind the #, which no server and no log ever sees.
const token = new URLSearchParams(location.hash.slice(1)).get("token");
if (token) begin(token);
else $("state").textContent = "open this page with #token=…";
