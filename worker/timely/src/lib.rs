//! The adaptor that runs stages on timely dataflow.
