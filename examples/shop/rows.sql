-- Written once, when capture runs already, so that each row is an event too.
insert into users (id, name, email) values
    (1, 'Ada', 'ada@example.com'), (2, 'Grace', 'grace@example.com')
on conflict do nothing;
insert into products (id, name, price, stock) values
    (1, 'Tea', 4.50, 120), (2, 'Pot', 29.90, 12), (3, 'Cup', 7.25, 60)
on conflict do nothing;
insert into orders (id, user_id, product_id, quantity, total) values
    (1, 1, 1, 2, 9.00), (2, 1, 2, 1, 29.90), (3, 2, 3, 4, 29.00)
on conflict do nothing;
-- Ids given above do not move the sequences; new rows must not meet them.
select setval(pg_get_serial_sequence('users', 'id'), greatest((select max(id) from users), 1));
select setval(pg_get_serial_sequence('products', 'id'), greatest((select max(id) from products), 1));
select setval(pg_get_serial_sequence('orders', 'id'), greatest((select max(id) from orders), 1));
