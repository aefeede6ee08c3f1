"""What `delivery-pools postfix install` makes of a site's Postfix configuration, worked out without touching it."""
