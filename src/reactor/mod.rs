//! The machine lives here: the turn, ring, net, commit, mesh, clock, background.
