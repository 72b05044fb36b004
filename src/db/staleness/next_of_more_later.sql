-- Part of other statements: the same of rows that count from later than their start.
SELECT min({counts_from} + {scope}.earliest)
FROM {scope}
JOIN more_of_{scope} USING (applies_to)
JOIN {table} AS execution ON {key} = {scope}.applies_to
WHERE {running}
  AND {past}
  AND {counts_from} > {cutoff}
  AND {without_rule}
