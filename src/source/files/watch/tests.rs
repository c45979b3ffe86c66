//! Real files that change as editors, installers and Kubernetes change them.
