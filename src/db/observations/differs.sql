-- Reports whether an observation is new or over. Rows of another table are not observed.
WITH {seen}
SELECT COALESCE({of_this_table}, false) AND (EXISTS (SELECT FROM fresh) OR EXISTS (SELECT FROM over))
