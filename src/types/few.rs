//! A list that holds one element in place. It knows nothing of what it holds.

use std::fmt;
use std::iter::Chain;
use std::ops::{Deref, DerefMut};

/// A list of which one element needs no allocation: most requests ask one partition, of one topic, of one core.
#[derive(Clone)]
pub struct Few<T>(Held<T>);

#[derive(Clone)]
enum Held<T> {
    Nothing,
    One(T),
    /// Any number.
    Many(Vec<T>),
}

impl<T> Few<T> {
    pub const fn new() -> Few<T> {
        Few(Held::Nothing)
    }

    pub fn with_capacity(elements: usize) -> Few<T> {
        Few(if elements > 1 { Held::Many(Vec::with_capacity(elements)) } else { Held::Nothing })
    }

    /// Makes room for so many more.
    pub fn reserve(&mut self, more: usize) {
        if self.len() + more > 1 {
            self.spread(more).reserve(more);
        }
    }

    pub fn push(&mut self, element: T) {
        match &mut self.0 {
            Held::Nothing => self.0 = Held::One(element),
            Held::One(_) => self.spread(1).push(element),
            Held::Many(elements) => elements.push(element),
        }
    }

    /// The elements in a vector, which has room for so many more if it is made now.
    fn spread(&mut self, more: usize) -> &mut Vec<T> {
        if !matches!(self.0, Held::Many(_)) {
            let mut elements = Vec::with_capacity(more + 1);
            if let Held::One(only) = std::mem::replace(&mut self.0, Held::Nothing) {
                elements.push(only);
            }
            self.0 = Held::Many(elements);
        }
        match &mut self.0 {
            Held::Many(elements) => elements,
            _ => unreachable!("just made so"),
        }
    }

    /// Keeps the room there is.
    pub fn clear(&mut self) {
        match &mut self.0 {
            Held::Many(elements) => elements.clear(),
            _ => self.0 = Held::Nothing,
        }
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        match &mut self.0 {
            Held::Nothing => {}
            Held::One(only) => {
                if !keep(only) {
                    self.0 = Held::Nothing;
                }
            }
            Held::Many(elements) => elements.retain(keep),
        }
    }

    /// Of equal neighbours the first stays.
    pub fn dedup(&mut self)
    where
        T: PartialEq,
    {
        if let Held::Many(elements) = &mut self.0 {
            elements.dedup();
        }
    }
}

impl<T> Default for Few<T> {
    fn default() -> Few<T> {
        Few::new()
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Held::Nothing => &[],
            Held::One(only) => std::slice::from_ref(only),
            Held::Many(elements) => elements,
        }
    }
}

impl<T> DerefMut for Few<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.0 {
            Held::Nothing => &mut [],
            Held::One(only) => std::slice::from_mut(only),
            Held::Many(elements) => elements,
        }
    }
}

impl<T> Extend<T> for Few<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, more: I) {
        let more = more.into_iter();
        self.reserve(more.size_hint().0);
        more.for_each(|element| self.push(element));
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Few<T> {
        let mut few = Few::new();
        few.extend(elements);
        few
    }
}

impl<T> From<[T; 1]> for Few<T> {
    fn from([only]: [T; 1]) -> Few<T> {
        Few(Held::One(only))
    }
}

impl<T> From<Vec<T>> for Few<T> {
    fn from(elements: Vec<T>) -> Few<T> {
        Few(Held::Many(elements))
    }
}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter = Chain<std::option::IntoIter<T>, std::vec::IntoIter<T>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, many) = match self.0 {
            Held::Nothing => (None, Vec::new()),
            Held::One(only) => (Some(only), Vec::new()),
            Held::Many(elements) => (None, elements),
        };
        one.into_iter().chain(many)
    }
}

impl<'a, T> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, T> IntoIterator for &'a mut Few<T> {
    type Item = &'a mut T;
    type IntoIter = std::slice::IterMut<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl<T: PartialEq> PartialEq for Few<T> {
    fn eq(&self, other: &Few<T>) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Few<T> {}

impl<T: fmt::Debug> fmt::Debug for Few<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_element_stays_in_place_and_a_second_moves_both() {
        let mut few = Few::new();
        assert!(few.is_empty());
        few.push(1);
        assert!(matches!(few.0, Held::One(1)));
        few.push(2);
        assert!(matches!(few.0, Held::Many(_)));
        few.extend([3, 4]);
        assert_eq!(few[..], [1, 2, 3, 4]);
        assert!(matches!([7].into_iter().collect::<Few<i32>>().0, Held::One(7)));
        assert!(matches!(Few::<i32>::with_capacity(1).0, Held::Nothing));
    }

    #[test]
    fn it_is_a_list_however_many_it_holds() {
        for count in 0..4 {
            let mut few: Few<i32> = (0..count).collect();
            let mut vector: Vec<i32> = (0..count).collect();
            assert_eq!(few, Few::from(vector.clone()));
            few.iter_mut().for_each(|element| *element /= 2);
            vector.iter_mut().for_each(|element| *element /= 2);
            few.dedup();
            vector.dedup();
            assert_eq!(few[..], vector);
            few.reserve(3);
            few.retain(|element| *element > 0);
            vector.retain(|element| *element > 0);
            assert_eq!(few.clone().into_iter().collect::<Vec<_>>(), vector);
            few.clear();
            assert!(few.is_empty());
        }
    }
}
