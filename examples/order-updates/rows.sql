insert into products (id, name, stock) values (1, 'Tea', 120), (2, 'Pot', 12)
on conflict do nothing;
insert into orders (id, customer, product_id, quantity) values (1, 'ada', 1, 2), (2, 'grace', 2, 1)
on conflict do nothing;
-- Ids given above do not move the sequences; new rows must not meet them.
select setval(pg_get_serial_sequence('products', 'id'), (select max(id) from products));
select setval(pg_get_serial_sequence('orders', 'id'), (select max(id) from orders));
