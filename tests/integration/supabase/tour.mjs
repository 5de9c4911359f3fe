// supabase-js against the data API: what each call gave, as one JSON object on standard output.
import { createClient } from "@supabase/supabase-js";

const [url, key, schema] = process.argv.slice(2);
const client = createClient(url, key, { auth: { persistSession: false } });
const out = {};
const note = (name, { data, error, count, status }) => {
  out[name] = { data, error, count, status };
};

note("insert", await client.from("towns").insert({ name: "Ulm", people: 5, tags: ["old"] }).select());
note("insert many", await client.from("towns").insert([{ name: "Rom", people: 9 }, { name: "Bonn" }]));
note("upsert", await client.from("towns").upsert({ name: "Ulm", people: 6 }, { onConflict: "name" }).select().single());
note("select", await client.from("towns").select("name,people", { count: "exact" }).gte("people", 6).order("name").range(0, 9));
note("or", await client.from("towns").select("name").or("name.eq.Ulm,and(people.gt.8,name.neq.Ulm)").order("name"));
note("contains", await client.from("towns").select("name").contains("tags", ["old"]));
note("in", await client.from("towns").select("name").in("name", ["Rom", "Ulm", "a,b"]).order("name"));
note("update", await client.from("towns").update({ people: 10 }).eq("name", "Rom").select("people"));
note("embed", await client.from("streets").insert({ town: "Ulm", name: "Hauptstraße" }).select("name,town:towns(people)").single());
note("many", await client.from("towns").select("name,streets!inner(name)").eq("streets.name", "Hauptstraße"));
note("rpc", await client.rpc("town_sum", { at_least: 6 }));
note("rpc get", await client.rpc("town_sum", { at_least: 6 }, { get: true }));
note("rpc rows", await client.rpc("big_towns", { at_least: 6 }).select("name").order("name"));
note("head", await client.from("towns").select("*", { count: "exact", head: true }));
note("maybe", await client.from("towns").select().eq("name", "nowhere").maybeSingle());
note("single", await client.from("towns").select().eq("name", "nowhere").single());
note("schema", await client.schema(schema).from("towns").select("name").eq("name", "Ulm"));
note("csv", await client.from("towns").select("name,people").eq("name", "Ulm").csv());
note("delete", await client.from("towns").delete().eq("name", "Bonn").select("name"));
note("missing", await client.from("nowhere").select());
note("conflict", await client.from("towns").insert({ name: "Ulm" }));
console.log(JSON.stringify(out));
process.exit(0);
