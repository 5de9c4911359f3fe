// supabase-js calling custom APIs: what each call gave, as one JSON object on standard output.
import { createClient } from "@supabase/supabase-js";

const [url, key, name] = process.argv.slice(2);
const { functions } = createClient(url, key, { auth: { persistSession: false } });
const out = {};
const note = async (what, path, options) => {
  const { data, error } = await functions.invoke(path, options);
  const failure = error && { name: error.name, status: error.context.status, body: await error.context.json() };
  out[what] = { data: data instanceof Blob ? await data.text() : data, error: failure };
};

await note("json", name, { body: { qty: 2 } });
await note("get", `${name}/below?qty=3`, { method: "GET" });
await note("headers", name, { body: { qty: 1, show: "headers" }, headers: { "x-own": "mine" } });
await note("text", name, { body: { qty: 1, show: "text" } });
await note("bytes", name, { body: { qty: 1, show: "bytes" } });
await note("teapot", name, { body: { qty: 1, show: "teapot" } });
await note("invalid", name, { body: { qty: 0 } });
await note("missing", "no-such-api", { body: {} });
console.log(JSON.stringify(out));
process.exit(0);
