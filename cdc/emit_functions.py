"""The SQL functions of the schema `rowcast` in a captured database, as text.

`emit` writes a transactional logical message, which is an event exactly if its transaction commits.
`schema_problem` walks a schema in the form of cdc/sql_schema.py and gives what is wrong first and
where; for a keyword that it does not know it fails rather than let it pass. `event_schema` is
made anew by each capture that starts, from [event_schemas] (cdc/postgres_emit.py): a function and
not a table, so that nothing of it is captured, granted or copied by a snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, LiteralString


@dataclass(frozen=True, slots=True)
class SqlFunction:
    """A function of the schema `rowcast`: its signature and, as text, its body."""

    name: LiteralString
    head: LiteralString
    body: str


_STEP: LiteralString = """
begin
    if name ~ '^[a-zA-Z][a-zA-Z0-9_]*$' then
        return path || '.' || name;
    end if;
    return path || '[''' || pg_catalog.replace(pg_catalog.replace(name, '\\', '\\\\'), '''', '\\''')
        || ''']';
end
"""
_REFUSAL: LiteralString = """
declare
    shown text := data::text;
begin
    if pg_catalog.length(shown) > 200 then
        shown := pg_catalog.left(shown, 200) || '…';
    end if;
    return array[pg_catalog.format('found %s, expected %s', shown, expected), path];
end
"""
_FORMAT: LiteralString = r"""
declare
    part text[];
begin
    case format
    when 'email', 'idn-email' then
        return words like '%@%';
    when 'uuid' then
        return words ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$';
    when 'ipv4' then
        return words ~ '^((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])([.](?!$)|$)){4}$';
    when 'date' then
        part := pg_catalog.regexp_match(words, '^([0-9]{4})-([0-9]{2})-([0-9]{2})$');
        return part is not null and part[1] <> '0000' and part[2] between '01' and '12'
            and part[3] between '01' and pg_catalog.to_char(pg_catalog.make_date(
                part[1]::int, part[2]::int, 1) + interval '1 month' - interval '1 day', 'DD');
    end case;
end
"""
_MULTIPLE: LiteralString = """
begin
    if multiple ? 'exact' then
        return pg_catalog.mod(number, (multiple ->> 'exact')::numeric) = 0;
    end if;
    if pg_catalog.abs(number) > 1e150 then
        return pg_catalog.mod(number, (multiple ->> 'float')::numeric) = 0;
    end if;
    return pg_catalog.trunc(number::float8 / (multiple ->> 'float')::float8)
        = number::float8 / (multiple ->> 'float')::float8;
end
"""
_PROBLEM: LiteralString = """
declare
    kind text := pg_catalog.jsonb_typeof(data);
    number numeric := case when kind = 'number' then data::numeric end;
    words text := case when kind = 'string' then data #>> '{}' end;
    size int := case kind when 'array' then pg_catalog.jsonb_array_length(data)
        when 'string' then pg_catalog.char_length(words) end;
    word text;
    said jsonb;
    part jsonb;
    name text;
    place int;
    matches int;
    problem text[];
begin
    if pg_catalog.jsonb_typeof(schema) = 'boolean' then
        if schema = 'false' then
            return rowcast.schema_refusal(data, 'nothing there', path);
        end if;
        return null;
    end if;
    if schema ? 'type' and not (schema -> 'type' ? kind
        or (kind = 'number' and schema -> 'type' ? 'integer' and pg_catalog.trunc(number) = number))
    then
        return rowcast.schema_refusal(data, 'the type ' || (
            select pg_catalog.string_agg(one, ' or ')
            from pg_catalog.jsonb_array_elements_text(schema -> 'type') one), path);
    end if;
    if kind = 'object' and schema ?| '{minProperties,maxProperties}' then
        size := (select pg_catalog.count(*) from pg_catalog.jsonb_object_keys(data));
    end if;
    for word, said in select * from pg_catalog.jsonb_each(schema) loop
        case word
        when 'type', 'then', 'else', 'minContains', 'maxContains' then
            continue;
        when '$ref' then
            problem := rowcast.schema_problem(refs -> (said #>> '{}'), refs, data, path);
        when 'const' then
            if data <> said then
                problem := rowcast.schema_refusal(data, said::text, path);
            end if;
        when 'enum' then
            if not exists (
                select from pg_catalog.jsonb_array_elements(said) one where one = data)
            then
                problem := rowcast.schema_refusal(data, 'one of ' || said::text, path);
            end if;
        when 'minimum' then
            if number < said::numeric then
                problem := rowcast.schema_refusal(data, 'at least ' || said::text, path);
            end if;
        when 'maximum' then
            if number > said::numeric then
                problem := rowcast.schema_refusal(data, 'at most ' || said::text, path);
            end if;
        when 'exclusiveMinimum' then
            if number <= said::numeric then
                problem := rowcast.schema_refusal(data, 'more than ' || said::text, path);
            end if;
        when 'exclusiveMaximum' then
            if number >= said::numeric then
                problem := rowcast.schema_refusal(data, 'less than ' || said::text, path);
            end if;
        when 'multipleOf' then
            if kind = 'number' and not rowcast.schema_multiple(number, said) then
                problem := rowcast.schema_refusal(data, 'a multiple of '
                    || coalesce(said ->> 'exact', said ->> 'float'), path);
            end if;
        when 'minLength', 'minItems', 'minProperties' then
            if size < said::numeric and kind = (case word when 'minLength' then 'string'
                when 'minItems' then 'array' else 'object' end)
            then
                problem := rowcast.schema_refusal(data, word || ' ' || said::text, path);
            end if;
        when 'maxLength', 'maxItems', 'maxProperties' then
            if size > said::numeric and kind = (case word when 'maxLength' then 'string'
                when 'maxItems' then 'array' else 'object' end)
            then
                problem := rowcast.schema_refusal(data, word || ' ' || said::text, path);
            end if;
        when 'pattern' then
            if words !~ (said #>> '{}') then
                problem := rowcast.schema_refusal(data, 'text that matches ' || said::text, path);
            end if;
        when 'format' then
            if kind = 'string' and not rowcast.schema_format(words, said #>> '{}') then
                problem := rowcast.schema_refusal(data, 'the format ' || said::text, path);
            end if;
        when 'required' then
            if kind = 'object' and not data ?& (select coalesce(pg_catalog.array_agg(one), '{}')
                from pg_catalog.jsonb_array_elements_text(said) one)
            then
                problem := rowcast.schema_refusal(data, 'the required ' || (
                    select one::text from pg_catalog.jsonb_array_elements(said) one
                    where not data ? (one #>> '{}') limit 1), path);
            end if;
        when 'dependentRequired' then
            if kind = 'object' then
                for name, part in select * from pg_catalog.jsonb_each(said) loop
                    if data ? name and not data ?& (select coalesce(pg_catalog.array_agg(one), '{}')
                        from pg_catalog.jsonb_array_elements_text(part) one)
                    then
                        problem := rowcast.schema_refusal(
                            data, part::text || ' beside ' || name, path);
                    end if;
                end loop;
            end if;
        when 'dependentSchemas' then
            if kind = 'object' then
                for name, part in select * from pg_catalog.jsonb_each(said) loop
                    if data ? name then
                        problem := coalesce(problem,
                            rowcast.schema_problem(part, refs, data, path));
                    end if;
                end loop;
            end if;
        when 'properties' then
            if kind = 'object' then
                for name, part in select * from pg_catalog.jsonb_each(said) loop
                    if data ? name then
                        problem := rowcast.schema_problem(part, refs, data -> name,
                            rowcast.schema_step(path, name));
                        exit when problem is not null;
                    end if;
                end loop;
            end if;
        when 'patternProperties' then
            if kind = 'object' then
                for name, part in
                    select key, one -> 1 from pg_catalog.jsonb_object_keys(data) key,
                        pg_catalog.jsonb_array_elements(said) one where key ~ (one ->> 0)
                loop
                    problem := rowcast.schema_problem(part, refs, data -> name,
                        rowcast.schema_step(path, name));
                    exit when problem is not null;
                end loop;
            end if;
        when 'additionalProperties' then
            if kind = 'object' then
                for name in
                    select key from pg_catalog.jsonb_object_keys(data) key
                    where not coalesce(schema -> 'properties' ? key, false) and not exists (
                        select from
                            pg_catalog.jsonb_array_elements(schema -> 'patternProperties') one
                        where key ~ (one ->> 0))
                loop
                    problem := rowcast.schema_problem(said, refs, data -> name,
                        rowcast.schema_step(path, name));
                    exit when problem is not null;
                end loop;
            end if;
        when 'propertyNames' then
            if kind = 'object' then
                for name in select * from pg_catalog.jsonb_object_keys(data) loop
                    problem := rowcast.schema_problem(said, refs, pg_catalog.to_jsonb(name), path);
                    exit when problem is not null;
                end loop;
            end if;
        when 'prefixItems' then
            if kind = 'array' then
                for place in 0 .. least(size, pg_catalog.jsonb_array_length(said)) - 1 loop
                    problem := rowcast.schema_problem(said -> place, refs, data -> place,
                        path || '[' || place || ']');
                    exit when problem is not null;
                end loop;
            end if;
        when 'items' then
            if kind = 'array' then
                place := coalesce(pg_catalog.jsonb_array_length(schema -> 'prefixItems'), 0);
                for part in select one from pg_catalog.jsonb_array_elements(data)
                    with ordinality as items(one, at) where at > place order by at
                loop
                    problem := rowcast.schema_problem(
                        said, refs, part, path || '[' || place || ']');
                    exit when problem is not null;
                    place := place + 1;
                end loop;
            end if;
        when 'contains' then
            if kind = 'array' then
                matches := 0;
                for part in select * from pg_catalog.jsonb_array_elements(data) loop
                    if rowcast.schema_problem(said, refs, part, path) is null then
                        matches := matches + 1;
                    end if;
                end loop;
                if matches < coalesce((schema -> 'minContains')::numeric, 1)
                    or matches > (schema -> 'maxContains')::numeric
                then
                    problem := rowcast.schema_refusal(data, pg_catalog.format(
                        '%s to %s items that keep `contains`, not %s',
                        coalesce(schema ->> 'minContains', '1'),
                        coalesce(schema ->> 'maxContains', 'any number of'), matches), path);
                end if;
            end if;
        when 'uniqueItems' then
            if kind = 'array' and said = 'true' and (select pg_catalog.count(*) <> pg_catalog.count(
                distinct one) from pg_catalog.jsonb_array_elements(data) one)
            then
                problem := rowcast.schema_refusal(data, 'items that differ', path);
            end if;
        when 'allOf' then
            for part in select * from pg_catalog.jsonb_array_elements(said) loop
                problem := rowcast.schema_problem(part, refs, data, path);
                exit when problem is not null;
            end loop;
        when 'anyOf', 'oneOf' then
            matches := 0;
            for part in select * from pg_catalog.jsonb_array_elements(said) loop
                if rowcast.schema_problem(part, refs, data, path) is null then
                    matches := matches + 1;
                    exit when word = 'anyOf';
                end if;
            end loop;
            if matches <> 1 then
                problem := rowcast.schema_refusal(data, pg_catalog.format(
                    '%s of the %s schemas of %s kept, not %s',
                    case word when 'anyOf' then 'one at least' else 'exactly one' end,
                    pg_catalog.jsonb_array_length(said), word, matches), path);
            end if;
        when 'not' then
            if rowcast.schema_problem(said, refs, data, path) is null then
                problem := rowcast.schema_refusal(data, 'what does not keep ' || said::text, path);
            end if;
        when 'if' then
            name := case when rowcast.schema_problem(said, refs, data, path) is null
                then 'then' else 'else' end;
            if schema ? name then
                problem := rowcast.schema_problem(schema -> name, refs, data, path);
            end if;
        end case;
        if problem is not null then
            return problem;
        end if;
    end loop;
    return null;
end
"""
_EMIT: LiteralString = """
declare
    content text;
    declared jsonb;
    problem text[];
begin
    if type is null or type !~ '^custom([.][A-Za-z0-9_-]+)+$' then
        raise exception using errcode = '22023',
            message = pg_catalog.format('found the event type %L, expected custom.<name>', type),
            hint = 'Names are of letters, digits, _ and -, joined by dots';
    end if;
    if pg_catalog.length(key) > 1000 then
        raise exception using errcode = '22023', message = pg_catalog.format(
            'found a key of %s characters, expected 1,000 at most', pg_catalog.length(key));
    end if;
    data := coalesce(data, 'null');
    content := pg_catalog.json_build_object('type', type, 'key', key)::text || E'\\n' || data::text;
    if pg_catalog.octet_length(pg_catalog.convert_to(content, 'UTF8')) > LIMIT then
        raise exception using errcode = '54000', message = pg_catalog.format(
            'found %s bytes of data for %s, expected LIMIT at most',
            pg_catalog.octet_length(content), pg_catalog.left(type, 100)),
            hint = 'Kafka takes no larger event: keep the data in a table and emit its key';
    end if;
    declared := rowcast.event_schema(type);
    if declared is not null then
        problem := rowcast.schema_problem(declared -> 'schema', declared -> 'refs', data, '$');
        if problem is not null then
            raise exception using errcode = '23514', message = pg_catalog.format(
                'the data of %s does not keep its schema: %s, at %s', type, problem[1], problem[2]),
                hint = 'Its schema stands in [event_schemas] of rowcast.toml';
        end if;
    end if;
    return pg_catalog.pg_logical_emit_message(true, 'rowcast.emit', content);
end
"""
FUNCTIONS: Final = (
    SqlFunction("schema_step", "(path text, name text) returns text immutable", _STEP),
    SqlFunction(
        "schema_refusal",
        "(data jsonb, expected text, path text) returns text[] immutable",
        _REFUSAL,
    ),
    SqlFunction("schema_format", "(words text, format text) returns boolean immutable", _FORMAT),
    SqlFunction(
        "schema_multiple", "(number numeric, multiple jsonb) returns boolean immutable", _MULTIPLE
    ),
    SqlFunction(
        "schema_problem",
        "(schema jsonb, refs jsonb, data jsonb, path text) returns text[] immutable",
        _PROBLEM,
    ),
)
"""In the order in which they are made; all are of plpgsql."""


def emit_function(largest_bytes: int) -> SqlFunction:
    """`rowcast.emit`, which refuses what would not go to Kafka."""
    return SqlFunction(
        "emit",
        "(type text, data jsonb default '{}', key text default null) returns pg_lsn volatile",
        _EMIT.replace("LIMIT", str(largest_bytes)),
    )
