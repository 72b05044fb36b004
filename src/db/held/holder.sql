-- Part of update.sql: who holds the row `execution`: the transaction, subtransaction or prepared transaction that holds the lock on
-- its own id, and one on the table too, which excludes the number of a group of transactions that share the row.
(
    SELECT CASE WHEN own.pid IS NOT NULL THEN '{session}' || own.pid
                ELSE '{prepared}' || (
                    SELECT prepared.gid
                    FROM pg_prepared_xacts AS prepared
                    WHERE prepared.database = current_database()
                      AND '-1/' || prepared.transaction = own.virtualtransaction
                    LIMIT 1
                ) END
    FROM pg_locks AS own
    WHERE own.locktype = 'transactionid'
      AND own.transactionid = execution.xmax
      AND own.mode = 'ExclusiveLock'
      AND own.granted
      AND EXISTS (
          SELECT
          FROM pg_locks AS relation_lock
          WHERE relation_lock.virtualtransaction = own.virtualtransaction
            AND relation_lock.locktype = 'relation'
            AND (relation_lock.relation = to_regclass('{table}')::oid
                 OR relation_lock.relation IN (SELECT relid FROM pg_partition_tree(to_regclass('{table}'))))
            AND relation_lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      )
    LIMIT 1
)
