//! Who may say to be whom: what real Envoys refuse, and what they go on with while everything behind an identity
//! changes.

mod matrix;
mod permissive;
mod revocation;
mod rotation;

use crate::harness::World;

/// The objects of a service on the pods of `app`; each port is `NAME PORT TARGET`.
fn service(name: &str, app: &str, address: &str, ports: &[String]) -> String {
    let port = |port: &String| {
        let [name, port, target] = port.split(' ').collect::<Vec<_>>()[..] else { panic!("{port}") };
        format!("  - {{name: {name}, port: {port}, targetPort: {target}}}\n")
    };
    let ports: String = ports.iter().map(port).collect();
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  clusterIP: {address}\n  \
         selector: {{app: {app}}}\n  ports:\n{ports}"
    )
}

/// Fails with all cells that came out otherwise than they should.
fn assert_cells(world: &World, cells: usize, wrong: &[String]) {
    println!("{cells} cells");
    if !wrong.is_empty() {
        let problems = world.control_plane().http("/debug/problems").body;
        panic!("{} of {cells} cells are wrong:\n{}\nproblems: {problems}", wrong.len(), wrong.join("\n"));
    }
}
