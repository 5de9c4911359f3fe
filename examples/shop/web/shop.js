// The shop's page: its rows, live. There is no other request than the WebSocket: each registration
// begins at the beginning of its topics (`from: {}`), so that all rows there are come first, as
// they were written, and then every change. Data is only ever put in as text.

import { connect } from "/static/rowcast.js";

const SHOWN_ORDERS = 50;
const KEPT_RECEIPTS = 8;
const FLASH_MS = 1_600;
const LOW_STOCK = 10;

const orders = new Map();
const products = new Map();
const users = new Map();
const reviews = new Map();
const receipts = [];
let isCaughtUp = false; // what came before is no news: it does not flash

const $ = (id) => document.getElementById(id);

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  return made;
}

// ---- what the page shows -------------------------------------------------------------------

const changedAt = new Map(); // when what is to be seen changing changed
let isDrawing = false;

function draw(id) {
  if (isCaughtUp) changedAt.set(id, performance.now());
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(() => {
    isDrawing = false;
    drawOrders();
    drawProducts();
    drawReceipts();
  });
}

function drawOrders() {
  const newestFirst = [...orders.values()].sort((one, other) => other.id - one.id);
  $("orders").replaceChildren(...newestFirst.slice(0, SHOWN_ORDERS).map(orderRow));
  $("orders-empty").hidden = orders.size > 0;
  const paid = newestFirst.filter((order) => order.status === "paid").length;
  $("orders-count").textContent = newestFirst.length - paid;
  $("orders-paid").textContent = paid;
}

function orderRow(order) {
  const row = element("tr", undefined, { "data-order": order.id });
  const status = element("td");
  status.append(element("span", order.status, { class: "badge", "data-status": order.status }));
  row.append(
    element("td", `#${order.id}`),
    element("td", users.get(order.user_id)?.name ?? "Guest"),
    element("td", products.get(order.product_id)?.name ?? "–"),
    element("td", order.quantity, { class: "number" }),
    element("td", order.total, { class: "number" }),
    status,
  );
  return flashing(row, `order ${order.id}`);
}

function drawProducts() {
  const byId = [...products.values()].sort((one, other) => one.id - other.id);
  $("products").replaceChildren(...byId.map(productItem));
  $("products-empty").hidden = products.size > 0;
}

function productItem(product) {
  const item = element("li", undefined, { "data-product": product.id });
  const first = element("div", undefined, { class: "row" });
  first.append(element("b", product.name), element("span", product.price, { class: "number" }));
  const second = element("div", undefined, { class: "detail" });
  const stock = element("span", product.stock > 0 ? `${product.stock} in stock` : "sold out");
  if (product.stock < LOW_STOCK) stock.className = "low";
  second.append(stock, rating(product));
  item.append(first, second);
  return flashing(item, `product ${product.id}`);
}

function rating(product) {
  const own = [...reviews.values()].filter((review) => review.product_id === product.id);
  const line = element("span");
  if (own.length === 0) {
    line.textContent = "no reviews yet";
    return line;
  }
  // The rating is moved by the second of two listeners; until it has run, the reviews speak.
  const stars = Number(product.rating ?? own.reduce((sum, { stars }) => sum + stars, 0) / own.length);
  const full = Math.max(0, Math.min(5, Math.round(stars)));
  const drawn = "★".repeat(full) + "☆".repeat(5 - full);
  line.append(
    element("span", drawn, { class: "stars", "aria-label": `${stars.toFixed(1)} of 5 stars` }),
    ` ${own.length} ${own.length === 1 ? "review" : "reviews"}`,
  );
  return line;
}

function drawReceipts() {
  $("receipts").replaceChildren(...receipts.map(receiptItem));
  $("receipts-empty").hidden = receipts.length > 0;
}

function receiptItem({ id, order, receipt, at }) {
  const item = element("li");
  const first = element("div", undefined, { class: "row" });
  const what = receipt?.product ? `${receipt.quantity} × ${receipt.product}` : "";
  first.append(
    element("b", `Order #${order}`),
    element("span", receipt?.total ?? "", { class: "number" }),
  );
  const second = element("div", undefined, { class: "detail" });
  const whose = [receipt?.name, what].filter(Boolean).join(", ");
  second.append(element("span", whose), element("time", at.toLocaleTimeString()));
  item.append(first, second);
  return flashing(item, id);
}

function flashing(shown, id) {
  const sinceMs = performance.now() - (changedAt.get(id) ?? -Infinity);
  if (sinceMs < FLASH_MS) {
    // Drawn anew half-way, it goes on where it was.
    shown.classList.add("flash");
    shown.style.animationDelay = `${-sinceMs}ms`;
  } else changedAt.delete(id);
  return shown;
}

// ---- what it registers for -----------------------------------------------------------------

function keep(rows, name, key = "id") {
  return (event) => {
    if (event.op === "t") rows.clear();
    else if (event.after) rows.set(event.after[key], event.after);
    else rows.delete(event.before?.[key]);
    draw(`${name} ${(event.after ?? event.before)?.[key]}`);
  };
}

function keepReceipt(event) {
  const { order, receipt } = event.data ?? {};
  if (order === undefined || receipt === undefined) return;
  receipts.unshift({ id: event.id, order, receipt, at: new Date(event.ts_ms) });
  receipts.length = Math.min(receipts.length, KEPT_RECEIPTS);
  draw(event.id);
}

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = text === "";
}

const STATES = {
  connecting: "connecting",
  live: "live",
  waiting: "connecting again",
  refused: "not signed in",
  closed: "closed",
};

function showState(state, detail) {
  $("state").dataset.state = state;
  $("state-text").textContent = STATES[state];
  if (state === "refused") notice(detail);
  if (state === "live") notice("");
}

function begin(token) {
  const rowcast = connect({ token, onState: showState });
  const wanted = [
    [{ pattern: "db.shop.public.users.*" }, keep(users, "user")],
    [{ pattern: "db.shop.public.products.*" }, keep(products, "product")],
    [{ pattern: "db.shop.public.orders.*" }, keep(orders, "order")],
    [{ pattern: "db.docs.shop.reviews.*" }, keep(reviews, "review", "_id")],
    [{ channel: "orders" }, keepReceipt],
  ];
  const behind = new Set(wanted);
  for (const one of wanted) {
    const [what, onEvent] = one;
    rowcast.register({ ...what, from: {} }, onEvent, {
      onLive: () => {
        behind.delete(one);
        isCaughtUp = behind.size === 0;
      },
      onIncomplete: () => notice("Older rows are no longer on Kafka; this page shows what changed since."),
      onError: (error) => notice(error.message),
    });
  }
}

// The token comes behind the #, which no server and no log ever sees. It is kept for this tab, so
// that a reload works, and taken out of the address.
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  sessionStorage.setItem("token", given);
  history.replaceState(null, "", location.pathname);
}
addEventListener("hashchange", () => location.reload());
const token = given ?? sessionStorage.getItem("token");
if (token) begin(token);
else showState("refused", "Open this page with #token=…: `rowcast token` makes one, `rowcast up` prints one.");
