//! What a token allows (Docker's token authentication; PROTOCOL §2.5).

use std::collections::BTreeSet;
use std::fmt;

use crate::spec::RepositoryName;

/// One resource and what may be done with it: `repository:library/ubuntu:pull,push`.
///
/// ```
/// use registry_proto::spec::ScopeSet;
///
/// let scopes = ScopeSet::pull(&"library/ubuntu".parse()?);
/// assert_eq!(scopes.iter().next().map(ToString::to_string).as_deref(), Some("repository:library/ubuntu:pull"));
/// # Ok::<(), registry_proto::spec::ReferenceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// `repository` or `registry`, with a class in parentheses if the challenge had one.
    kind: String,
    name: String,
    actions: BTreeSet<String>,
}

impl Scope {
    fn new(kind: &str, name: &str, actions: &[&str]) -> Self {
        let actions = actions.iter().map(|&action| action.to_owned()).collect();
        Self { kind: kind.to_owned(), name: name.to_owned(), actions }
    }

    /// A name may hold colons (`host:port/…`), so that the first and the last count.
    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        let plain =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
        let actions: BTreeSet<String> = actions.split(',').filter(|a| plain(a)).map(str::to_owned).collect();
        (plain(kind) && plain(name) && !actions.is_empty()).then(|| Self {
            kind: kind.to_owned(),
            name: name.to_owned(),
            actions,
        })
    }

    fn same_resource(&self, other: &Self) -> bool {
        self.kind == other.kind && self.name == other.name
    }

    fn allows(&self, action: &str) -> bool {
        self.actions.contains("*") || self.actions.contains(action)
    }

    fn covers(&self, other: &Self) -> bool {
        self.same_resource(other) && other.actions.iter().all(|action| self.allows(action))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.kind, self.name)?;
        for (i, action) in self.actions.iter().enumerate() {
            write!(f, "{}{action}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// What a request needs, or a token allows. Each resource occurs once; the one needed most comes first, because some token
/// servers read only that.
///
/// ```
/// use registry_proto::spec::ScopeSet;
///
/// let needed = ScopeSet::mount(&"app".parse()?, &"base".parse()?);
/// assert_eq!(needed, ScopeSet::parse("repository:app:pull,push repository:base:pull"));
/// # Ok::<(), registry_proto::spec::ReferenceError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeSet(Vec<Scope>);

impl ScopeSet {
    /// To read from a repository.
    pub fn pull(name: &RepositoryName) -> Self {
        Self(vec![Scope::new("repository", name.as_str(), &["pull"])])
    }

    /// To read from and write to a repository.
    pub fn push(name: &RepositoryName) -> Self {
        Self(vec![Scope::new("repository", name.as_str(), &["pull", "push"])])
    }

    /// To write to `to` what `from` holds.
    pub fn mount(to: &RepositoryName, from: &RepositoryName) -> Self {
        Self::push(to).union(&Self::pull(from))
    }

    /// To delete from a repository.
    pub fn delete(name: &RepositoryName) -> Self {
        Self(vec![Scope::new("repository", name.as_str(), &["delete"])])
    }

    /// To do anything at all with a repository.
    pub fn everything(name: &RepositoryName) -> Self {
        Self(vec![Scope::new("repository", name.as_str(), &["*"])])
    }

    /// To list a registry's repositories.
    pub fn catalog() -> Self {
        Self(vec![Scope::new("registry", "catalog", &["*"])])
    }

    /// The scopes of a challenge: separated by spaces. What can't be read is left out.
    pub fn parse(text: &str) -> Self {
        text.split(' ')
            .filter_map(Scope::parse)
            .take(64)
            .fold(Self::default(), |set, scope| set.union(&Self(vec![scope])))
    }

    /// The scopes, the one needed most first.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }

    /// Both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.0.clone();
        for scope in &other.0 {
            match all.iter_mut().find(|known| known.same_resource(scope)) {
                Some(known) => known.actions.extend(scope.actions.iter().cloned()),
                None => all.push(scope.clone()),
            }
        }
        Self(all)
    }

    /// Whether this allows everything that `other` does.
    pub fn contains(&self, other: &Self) -> bool {
        other.0.iter().all(|wanted| self.0.iter().any(|scope| scope.covers(wanted)))
    }

    /// What of a challenge's scopes may be asked for on behalf of a request that needs `self`: whatever it says about the
    /// same resources. A registry must not talk a client into a token that reaches further (A29).
    #[must_use]
    pub fn same_resources(&self, challenged: &Self) -> Self {
        Self(challenged.0.iter().filter(|scope| self.0.iter().any(|own| own.same_resource(scope))).cloned().collect())
    }

    /// What of a challenge's scopes is about anything of the same kind, and no more than what we want to do anyway: proxies
    /// know repositories by other names.
    #[must_use]
    pub fn same_actions(&self, challenged: &Self) -> Self {
        let ours = |scope: &Scope| {
            let own: Vec<&Scope> = self.0.iter().filter(|own| own.kind == scope.kind).collect();
            let actions: BTreeSet<String> =
                scope.actions.iter().filter(|action| own.iter().any(|own| own.allows(action))).cloned().collect();
            (!actions.is_empty()).then(|| Scope { kind: scope.kind.clone(), name: scope.name.clone(), actions })
        };
        Self(challenged.0.iter().filter_map(ours).collect())
    }

    /// The repository that this is about: the first one named.
    pub(crate) fn repository(&self) -> Option<RepositoryName> {
        self.0.iter().find(|scope| scope.kind == "repository")?.name.parse().ok()
    }

    /// Whether this is about a registry's list of repositories.
    pub(crate) fn is_catalog(&self) -> bool {
        self.0.iter().any(|scope| scope.kind == "registry")
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, scope) in self.0.iter().enumerate() {
            write!(f, "{}{scope}", if i == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> ScopeSet {
        ScopeSet::parse(text)
    }

    #[test]
    fn text() {
        let name: RepositoryName = "a/b".parse().unwrap();
        assert_eq!(ScopeSet::push(&name).to_string(), "repository:a/b:pull,push");
        assert_eq!(
            ScopeSet::mount(&name, &"x".parse().unwrap()).to_string(),
            "repository:a/b:pull,push repository:x:pull"
        );
        assert_eq!(
            set("repository:h:5000/a:pull,push repository:h:5000/a:pull nonsense a:b:").to_string(),
            "repository:h:5000/a:pull,push"
        );
        assert_eq!(set("repository(plugin):x:pull").to_string(), "repository(plugin):x:pull");
    }

    #[test]
    fn what_contains_what() {
        assert!(set("repository:a:*").contains(&set("repository:a:pull,delete")));
        assert!(!set("repository:a:pull").contains(&set("repository:a:pull,push")));
        assert!(!set("repository:a:pull").contains(&set("repository:b:pull")));
        assert!(set("repository:a:pull").contains(&ScopeSet::default()));
    }

    #[test]
    fn c15_a29_what_a_challenge_may_ask_for() {
        let wanted = set("repository:n:pull");
        let challenged = set("repository:n:pull,push repository:secret:push repository:other:pull registry:catalog:*");
        assert_eq!(wanted.same_resources(&challenged), set("repository:n:pull,push"));
        assert_eq!(wanted.same_actions(&challenged), set("repository:n:pull repository:other:pull"));
        let wide = set("repository:proxy/n:pull,push,delete repository:x:*");
        assert_eq!(wanted.same_actions(&wide), set("repository:proxy/n:pull"));
    }
}
