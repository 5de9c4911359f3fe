create table if not exists checkouts (
    order_id text primary key,
    amount numeric(10, 2) not null check (amount > 0),
    charge text not null,
    paid_at timestamptz not null default now()
);
alter table checkouts replica identity full;
