insert into articles (id, title, body) values
    (1, 'How to make tea', 'Boil water.'), (2, 'Which pot', 'A warm one.')
on conflict do nothing;
select setval(pg_get_serial_sequence('articles', 'id'), (select max(id) from articles));
