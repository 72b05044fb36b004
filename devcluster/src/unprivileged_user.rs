//! The user that runs Postgres when root starts the cluster.

use std::{fs, os::unix::fs::chown, path::Path};

use crate::Error;

/// A user of this machine other than root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnprivilegedUser {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl UnprivilegedUser {
    /// Returns the user to run Postgres as, or `None` for the current user unless that is root: Postgres refuses to run
    /// as root.
    pub(crate) fn for_postgres() -> Result<Option<Self>, Error> {
        if !is_root() {
            return Ok(None);
        }
        let path = Path::new("/etc/passwd");
        let passwd = fs::read_to_string(path).map_err(Error::io("read", path))?;
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| Self::parse(&passwd, name))
            .map(Some)
            .ok_or(Error::NoUnprivilegedUser)
    }

    fn parse(passwd: &str, name: &str) -> Option<Self> {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next()? != name {
                return None;
            }
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(Self { name: name.to_owned(), uid, gid })
        })
    }

    /// Makes this user the owner of a file or folder.
    pub(crate) fn own(&self, path: &Path) -> Result<(), Error> {
        chown(path, Some(self.uid), Some(self.gid)).map_err(Error::io("change the owner of", path))
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_match() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\npostgres2:x:7:8::/:/bin/sh\npostgres:x:101:104:P,,,:/v:/bin/sh\n";
        let found = UnprivilegedUser::parse(passwd, "postgres");
        assert_eq!(found, Some(UnprivilegedUser { name: "postgres".into(), uid: 101, gid: 104 }));
        assert_eq!(UnprivilegedUser::parse(passwd, "nobody"), None);
    }
}
