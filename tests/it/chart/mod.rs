//! The Helm chart: the real Helm, a real API server, and the operator with the configuration of the chart.

mod contradictions;
mod drift;
mod lacking;
mod release;
mod values;
