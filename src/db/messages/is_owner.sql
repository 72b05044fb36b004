-- Reports whether somebody owns one of these executions. $1: ids, $2: address.
SELECT EXISTS (
    SELECT
    FROM {table} AS execution
    JOIN unnest($1::text[]) AS given (id) ON {id} = {given_id}
    WHERE btrim({owner}) = $2
)
