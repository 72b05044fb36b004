-- Adds what people granted in other records to the rules of a record. $1: its store id, $2: store ids of the others, $3: pattern for
-- the sources of extensions without an object.
INSERT INTO jobexec.rules AS rule (
    store_id, scope, key, extend_by, extend_source, promised, promised_start, promised_by, overruled, earliest, fixed
)
SELECT DISTINCT ON (other.key)
       $1,
       other.scope,
       other.key,
       CASE WHEN COALESCE(other.extend_source LIKE $3, false) THEN other.extend_by END,
       CASE WHEN COALESCE(other.extend_source LIKE $3, false) THEN other.extend_source END,
       -- A promise counts only if it was made for no more than the extension.
       CASE WHEN NOT COALESCE(other.extend_source LIKE $3, false) OR other.promised_by <= other.extend_by
            THEN other.promised END,
       CASE WHEN NOT COALESCE(other.extend_source LIKE $3, false) OR other.promised_by <= other.extend_by
            THEN other.promised_start END,
       CASE WHEN NOT COALESCE(other.extend_source LIKE $3, false) OR other.promised_by <= other.extend_by
            THEN other.promised_by END,
       '{{}}'::text[],
       interval '0',
       false
FROM jobexec.rules AS other
WHERE other.store_id = ANY ($2)
  AND {granted}
  AND {wanted}
ORDER BY other.key,
         COALESCE(other.extend_source LIKE $3, false) DESC,
         other.extend_by DESC NULLS LAST,
         other.store_id DESC
ON CONFLICT (store_id, scope, key) DO UPDATE
SET extend_by = CASE WHEN {extends} THEN excluded.extend_by ELSE rule.extend_by END,
    extend_source = CASE WHEN {extends} THEN excluded.extend_source ELSE rule.extend_source END,
    promised = CASE WHEN {promises} THEN excluded.promised ELSE rule.promised END,
    promised_start = CASE WHEN {promises} THEN excluded.promised_start ELSE rule.promised_start END,
    promised_by = CASE WHEN {promises} THEN excluded.promised_by ELSE rule.promised_by END
WHERE {extends} OR {promises}
