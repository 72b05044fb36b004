-- Reports whether the stored suspects for a reason are not those of now.
WITH {found}
SELECT EXISTS (
    (SELECT * FROM found EXCEPT SELECT * FROM kept)
    UNION ALL
    (SELECT * FROM kept EXCEPT SELECT * FROM found)
)
