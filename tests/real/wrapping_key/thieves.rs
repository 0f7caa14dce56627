//! What somebody could do who has got hold of one thing or another: the sentences of docs/security.md.
