//! Pages of lists.

use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};
use taskpost_common::page::{CursorKey, Direction};
use taskpost_store::Start;

use crate::Error;

/// Which page is wanted.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// At most so many items.
    pub limit: usize,
    /// Where to go on, from an earlier page of the same list.
    pub cursor: Option<String>,
}

/// Which page is wanted of a list that has numbered pages too.
#[derive(Clone, Debug)]
pub enum Paging {
    /// By cursor.
    Cursor(PageRequest),
    /// By number, from 1, with the total.
    Numbered {
        /// The page.
        page: u32,
        /// Items on it.
        per_page: usize,
    },
}

/// A page.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// Its items.
    pub data: Vec<T>,
    /// Where the next page starts; absent on the last.
    pub next_cursor: Option<String>,
    /// Where the page before starts; absent on the first.
    pub prev_cursor: Option<String>,
    /// How many items there are, where pages are numbered.
    pub total: Option<i64>,
}

impl<T> Page<T> {
    /// A page by its number, of a list of `total` items.
    pub(crate) const fn numbered(data: Vec<T>, total: i64) -> Self {
        Self { data, next_cursor: None, prev_cursor: None, total: Some(total) }
    }

    /// The page with each of its items made into another.
    pub(crate) fn map<U>(self, with: impl FnMut(T) -> U) -> Page<U> {
        let Self { data, next_cursor, prev_cursor, total } = self;
        Page { data: data.into_iter().map(with).collect(), next_cursor, prev_cursor, total }
    }
}

impl Paging {
    /// Where the page starts, which way a cursor walks, and how many rows to ask for: one more than a page by cursor holds.
    pub(crate) fn start<Id: DeserializeOwned + Copy>(
        &self,
        cursors: &Cursors<'_>,
    ) -> Result<(Start<Id>, Option<Direction>, usize), Error> {
        match self {
            Self::Numbered { page, per_page } => {
                let before = i64::from(page.saturating_sub(1));
                let skipped = before.saturating_mul(i64::try_from(*per_page).unwrap_or(i64::MAX));
                Ok((Start::Offset(skipped), None, *per_page))
            }
            Self::Cursor(page) => {
                let cursor = cursors.open::<Id>(page.cursor.as_deref())?;
                Ok((cursor.into(), cursor.map(|(way, _)| way), page.limit + 1))
            }
        }
    }
}

/// Cursors of one list: bound to the user, the list, its filter and its order by `scope`.
pub(crate) struct Cursors<'a> {
    pub(crate) key: &'a CursorKey,
    pub(crate) scope: String,
    pub(crate) now: DateTime<Utc>,
}

impl Cursors<'_> {
    /// Where the page starts, and which way it walks; `None` at the beginning.
    pub(crate) fn open<K: DeserializeOwned>(
        &self,
        cursor: Option<&str>,
    ) -> Result<Option<(Direction, K)>, Error> {
        cursor.map(|cursor| self.key.open(&self.scope, cursor, self.now).map_err(Error::from)).transpose()
    }

    /// The page from one item more than it holds, which tells whether there is another. `items` are in the list's
    /// order; walking backwards, the surplus one is the first.
    pub(crate) fn page<T, K: Serialize>(
        &self,
        items: Vec<T>,
        limit: usize,
        came: Option<Direction>,
        key: impl Fn(&T) -> K,
    ) -> Result<Page<T>, Error> {
        self.page_to(None, items, limit, came, key)
    }

    /// As [`Cursors::page`]; one that came short, and maybe empty, ended at `end`, where the next one goes on.
    pub(crate) fn page_to<T, K: Serialize>(
        &self,
        end: Option<K>,
        mut items: Vec<T>,
        limit: usize,
        came: Option<Direction>,
        key: impl Fn(&T) -> K,
    ) -> Result<Page<T>, Error> {
        let surplus = items.len() > limit;
        let backwards = came == Some(Direction::Previous);
        if surplus {
            if backwards { drop(items.remove(0)) } else { items.truncate(limit) }
        }
        let end = end.filter(|_| !surplus);
        let more = surplus || end.is_some();
        let has_previous = if backwards { more } else { came.is_some() };
        let (first, last) = (items.first().map(&key), items.last().map(&key));
        let (first, last) = match (end.as_ref(), backwards) {
            (None, _) => (first.as_ref(), last.as_ref()),
            (Some(end), false) => (first.as_ref().or(Some(end)), Some(end)),
            (Some(end), true) => (Some(end), last.as_ref().or(Some(end))),
        };
        let seal = |direction, key: Option<&K>, wanted: bool| match key {
            Some(key) if wanted => self.key.seal(&self.scope, (direction, key), self.now).map(Some),
            _ => Ok(None),
        };
        let next_cursor = seal(Direction::Next, last, backwards || more)?;
        let prev_cursor = seal(Direction::Previous, first, has_previous)?;
        Ok(Page { data: items, next_cursor, prev_cursor, total: None })
    }
}

#[cfg(test)]
mod tests {
    use taskpost_common::page::Direction::{Next, Previous};

    use super::*;

    #[test]
    fn a_page_that_came_short_goes_on_where_it_ended() {
        let key = CursorKey::derive(b"secret");
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let cursors = Cursors { key: &key, scope: "list".to_owned(), now };
        for (came, end, items, next, previous) in [
            (None, None, vec![1, 2], None, None),
            (None, Some(9), vec![1, 2], Some((Next, 9)), None),
            (None, Some(9), vec![], Some((Next, 9)), None),
            (Some(Next), Some(9), vec![], Some((Next, 9)), Some((Previous, 9))),
            (Some(Next), None, vec![1, 2, 3, 4], Some((Next, 3)), Some((Previous, 1))),
            (Some(Previous), None, vec![5], Some((Next, 5)), None),
            (Some(Previous), Some(1), vec![5], Some((Next, 5)), Some((Previous, 1))),
            (Some(Previous), Some(1), vec![], Some((Next, 1)), Some((Previous, 1))),
        ] {
            let page = cursors.page_to(end, items.clone(), 3, came, |item: &i32| *item).unwrap();
            let open = |cursor: Option<String>| cursors.open::<i32>(cursor.as_deref()).unwrap();
            let opened = (open(page.next_cursor), open(page.prev_cursor));
            assert_eq!(opened, (next, previous), "{items:?} up to {end:?} by {came:?}");
        }
    }
}
