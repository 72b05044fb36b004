-- Reads the labels of the enum of a column. $1: oid of the relation, $2: name of the column.
SELECT label.enumlabel::text
FROM pg_attribute AS attribute
JOIN pg_enum AS label ON label.enumtypid = attribute.atttypid
WHERE attribute.attrelid = $1
  AND attribute.attname = $2
