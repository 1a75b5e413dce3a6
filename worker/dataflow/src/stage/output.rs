//! [pure] The outputs of a stage: rows find their subtask, messages get their stamp.

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;

use super::Outgoing;
use crate::envelope::{Envelope, Payload};
use crate::error::Result;
use crate::graph::Exchange;
use crate::hash::hash_columns;
use crate::key_group::{Subtask, group_of, worker_of};
use crate::time::{Epoch, Watermark};

pub(super) struct StageOutput {
    number: usize,
    exchange: Exchange,
    subtask: Subtask,
    /// Of the next message in the open epoch.
    seq: u32,
    /// The target of the next rebalanced batch.
    next_target: u32,
    said: Option<Watermark>,
    hashes: Vec<u64>,
}

impl StageOutput {
    pub(super) fn new(number: usize, exchange: Exchange, subtask: Subtask) -> Self {
        Self { number, exchange, subtask, seq: 0, next_target: subtask.index, said: None, hashes: Vec::new() }
    }

    /// Sends rows to whom they belong.
    pub(super) fn rows(&mut self, epoch: Epoch, batch: &RecordBatch, outbox: &mut Vec<Outgoing>) -> Result<()> {
        let workers = self.subtask.workers;
        match &self.exchange {
            Exchange::Forward => self.send(epoch, self.subtask.index, Payload::Rows(batch.clone()), outbox),
            Exchange::Rebalance => {
                let target = self.next_target % workers;
                self.next_target = (target + 1) % workers;
                self.send(epoch, target, Payload::Rows(batch.clone()), outbox);
            }
            Exchange::Broadcast => (0..workers).for_each(|target| self.send(epoch, target, Payload::Rows(batch.clone()), outbox)),
            Exchange::HashShuffle(_) if workers == 1 => self.send(epoch, 0, Payload::Rows(batch.clone()), outbox),
            Exchange::HashShuffle(columns) => {
                let keys: Vec<_> = columns.iter().map(|column| Arc::clone(batch.column(*column))).collect();
                hash_columns(&keys, batch.num_rows(), &mut self.hashes)?;
                self.shuffle(epoch, batch, outbox)?;
            }
        }
        Ok(())
    }

    /// One vectorised pass over the hashes, one `take` a target.
    fn shuffle(&mut self, epoch: Epoch, batch: &RecordBatch, outbox: &mut Vec<Outgoing>) -> Result<()> {
        let Subtask { workers, groups, .. } = self.subtask;
        let expected = batch.num_rows() / workers as usize * 5 / 4;
        let mut rows: Vec<Vec<u32>> = (0..workers).map(|_| Vec::with_capacity(expected)).collect();
        for (row, hash) in (0u32..).zip(&self.hashes) {
            rows[worker_of(group_of(*hash, groups), workers, groups) as usize].push(row);
        }
        for (target, rows) in (0u32..).zip(rows) {
            if rows.len() == batch.num_rows() {
                self.send(epoch, target, Payload::Rows(batch.clone()), outbox);
            } else if !rows.is_empty() {
                let part = take_record_batch(batch, &UInt32Array::from(rows))?;
                self.send(epoch, target, Payload::Rows(part), outbox);
            }
        }
        Ok(())
    }

    /// Tells every target the watermark of the closing epoch, if it is news, and ends the epoch's numbering.
    pub(super) fn close(&mut self, epoch: Epoch, watermark: Watermark, outbox: &mut Vec<Outgoing>) {
        if self.said != Some(watermark) {
            self.said = Some(watermark);
            let targets = match self.exchange {
                Exchange::Forward => self.subtask.index..self.subtask.index + 1,
                _ => 0..self.subtask.workers,
            };
            targets.for_each(|target| self.send(epoch, target, Payload::Watermark(watermark), outbox));
        }
        self.seq = 0;
    }

    fn send(&mut self, epoch: Epoch, target: u32, payload: Payload, outbox: &mut Vec<Outgoing>) {
        let envelope = Envelope { sender: self.subtask.index, seq: self.seq, payload };
        self.seq += 1;
        outbox.push(Outgoing { output: self.number, target, epoch, envelope });
    }
}
