//! The Helm chart: the real Helm, a real API server, and the operator with what the chart gives it.

mod contradictions;
mod drift;
mod lacking;
mod release;
mod values;
