//! The resource types of Rheos and their validation.
