//! Open labels in a snapshot: bytes, and back.

use std::collections::VecDeque;

use crate::labels::{Bought, Click, OpenView, Order, Pending};
use crate::wire::{Reader, SnapshotError, Writer};

impl Pending {
    pub(crate) fn write(&self, out: &mut Writer) {
        out.len(self.views.len());
        for view in &self.views {
            out.int(view.time_ms);
            out.int(view.offset);
            out.fixed(view.id);
            out.uint(u64::from(view.item));
            out.uint(u64::from(view.campaign));
            out.uint(u64::from(view.written));
            out.int(view.click_ms);
            out.bool(view.bought.is_some());
            if let Some(bought) = &view.bought {
                bought.write(out);
            }
        }
        out.len(self.clicks.len());
        for click in &self.clicks {
            out.int(click.time_ms);
            out.int(click.offset);
            out.fixed(click.view);
            out.uint(u64::from(click.item));
            out.uint(u64::from(click.campaign));
            out.bool(click.taken);
        }
        out.len(self.orders.len());
        for order in &self.orders {
            out.int(order.time_ms);
            out.int(order.offset);
            out.uint(u64::from(order.item));
            out.uint(u64::from(order.currency));
            out.f64(order.value);
        }
    }

    pub(crate) fn read_from(input: &mut Reader<'_>, texts: usize) -> Result<Self, SnapshotError> {
        let known = |input: &mut Reader<'_>| {
            let id = input.id()?;
            if (id as usize) < texts { Ok(id) } else { Err(input.damaged()) }
        };
        let count = input.len()?;
        let mut views = VecDeque::with_capacity(count);
        for _ in 0..count {
            views.push_back(OpenView {
                time_ms: input.int()?,
                offset: input.int()?,
                id: input.fixed()?,
                item: known(input)?,
                campaign: known(input)?,
                written: input.id()?,
                click_ms: input.int()?,
                bought: if input.bool()? { Some(Box::new(Bought::read_from(input, texts)?)) } else { None },
            });
        }
        let count = input.len()?;
        let mut clicks = VecDeque::with_capacity(count);
        for _ in 0..count {
            clicks.push_back(Click {
                time_ms: input.int()?,
                offset: input.int()?,
                view: input.fixed()?,
                item: known(input)?,
                campaign: known(input)?,
                taken: input.bool()?,
            });
        }
        let mut orders = Vec::new();
        for _ in 0..input.len()? {
            orders.push(Order {
                time_ms: input.int()?,
                offset: input.int()?,
                item: known(input)?,
                currency: known(input)?,
                value: input.f64()?,
            });
        }
        Ok(Self::new(views, clicks, orders))
    }
}

impl Bought {
    fn write(&self, out: &mut Writer) {
        out.len(self.undecided_ms.len());
        for time_ms in &self.undecided_ms {
            out.int(*time_ms);
        }
        out.bool(self.after_click);
        out.bool(self.after_view);
        out.int(self.first_ms);
        out.int(self.last.0);
        out.int(self.last.1);
        out.f64(self.value);
        out.f64(self.refunded);
        out.uint(u64::from(self.currency));
    }

    fn read_from(input: &mut Reader<'_>, texts: usize) -> Result<Self, SnapshotError> {
        let mut undecided_ms = Vec::new();
        for _ in 0..input.len()? {
            undecided_ms.push(input.int()?);
        }
        let bought = Self {
            undecided_ms,
            after_click: input.bool()?,
            after_view: input.bool()?,
            first_ms: input.int()?,
            last: (input.int()?, input.int()?),
            value: input.f64()?,
            refunded: input.f64()?,
            currency: input.id()?,
        };
        if bought.currency as usize >= texts { Err(input.damaged()) } else { Ok(bought) }
    }
}
